package compress

import "strings"

// Level says how much is left out.
type Level string

// The levels.
const (
	Low    Level = "low"
	Medium Level = "medium"
	High   Level = "high"
)

// Method is one of the two methods.
type Method string

// The methods.
const (
	Contextual Method = "hypervisa"
	Standard   Method = "standard"
)

// Settings are CompressionSettings of the contract.
type Settings struct {
	Method            Method `json:"method"`
	PreserveStructure bool   `json:"preserveStructure"`
	PreserveTypes     bool   `json:"preserveTypes"`
	PreserveExports   bool   `json:"preserveExports"`
	PreserveDocs      bool   `json:"preserveDocs"`
	OptimizationLevel Level  `json:"optimizationLevel"`
}

// Default are the settings of a context that were never changed.
func Default() Settings {
	return Settings{Method: Contextual, PreserveStructure: true, PreserveTypes: true, PreserveExports: true, OptimizationLevel: Medium}
}

// Key names what the settings do to a text. Settings with equal keys give equal texts. Its number changes with the code of this package.
func (s Settings) Key() string {
	if s.Method == Standard {
		return "standard/1"
	}
	key := []string{string(s.Method) + "/1", string(s.OptimizationLevel)}
	if s.PreserveDocs {
		key = append(key, "docs")
	}
	if s.OptimizationLevel == High {
		for _, flag := range []struct {
			on   bool
			name string
		}{{s.PreserveStructure, "structure"}, {s.PreserveTypes, "types"}, {s.PreserveExports, "exports"}} {
			if flag.on {
				key = append(key, flag.name)
			}
		}
	}
	return strings.Join(key, " ")
}
