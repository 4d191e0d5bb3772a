package openapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemas collects the positions in the document whose schemas are wanted, and compiles them together. The compiler knows where a JSON
// schema has others inside of it, and nothing of an OpenAPI document: at each schema that it meets outside of one it copies all that it
// knows, which took most of a server's start. So it is given one schema with all of them below $defs, each under the position that it has
// in the document.
type schemas struct {
	doc    map[string]any
	wanted []wish
}

type wish struct {
	pointer string
	take    func(*jsonschema.Schema)
	name    string
}

// want asks for the schema at a position. name is what an error says of it.
func (s *schemas) want(pointer, name string, take func(*jsonschema.Schema)) {
	s.wanted = append(s.wanted, wish{strings.TrimPrefix(pointer, "#"), take, name})
}

// compile hands out all schemas that were asked for.
func (s *schemas) compile() error {
	definitions := map[string]any{}
	open := []string{}
	meet := func(pointer string) {
		if _, known := definitions[pointer]; !known {
			definitions[pointer] = nil
			open = append(open, pointer)
		}
	}
	for _, w := range s.wanted {
		meet(w.pointer)
	}
	for len(open) > 0 {
		pointer := open[len(open)-1]
		open = open[:len(open)-1]
		at, err := s.lookup(pointer)
		if err != nil {
			return err
		}
		definitions[pointer] = moved(at, meet)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	if err := compiler.AddResource(documentURL, map[string]any{"$defs": definitions}); err != nil {
		return fmt.Errorf("openapi: %w", err)
	}
	for _, w := range s.wanted {
		schema, err := compiler.Compile(documentURL + definition(w.pointer))
		if err != nil {
			return fmt.Errorf("openapi: %s: %w", w.name, err)
		}
		w.take(schema)
	}
	return nil
}

// lookup finds the value at a position of the document.
func (s *schemas) lookup(pointer string) (any, error) {
	var at any = s.doc
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		switch within := at.(type) {
		case map[string]any:
			at = within[token]
		case []any:
			var i int
			if _, err := fmt.Sscan(token, &i); err != nil || i < 0 || i >= len(within) {
				return nil, fmt.Errorf("openapi: %s leads nowhere", pointer)
			}
			at = within[i]
		default:
			at = nil
		}
		if at == nil {
			return nil, fmt.Errorf("openapi: %s leads nowhere", pointer)
		}
	}
	return at, nil
}

// moved copies a schema, with its references led to the definitions. meet is called for each target.
func moved(value any, meet func(pointer string)) any {
	switch v := value.(type) {
	case map[string]any:
		copied := make(map[string]any, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			ref, isText := v[key].(string)
			if pointer, isLocal := strings.CutPrefix(ref, "#/"); isText && key == "$ref" && isLocal {
				meet("/" + pointer)
				copied[key] = definition("/" + pointer)
				continue
			}
			copied[key] = moved(v[key], meet)
		}
		return copied
	case []any:
		copied := make([]any, len(v))
		for i := range v {
			copied[i] = moved(v[i], meet)
		}
		return copied
	}
	return value
}

// definition is the reference of a position among the definitions.
func definition(pointer string) string { return "#/$defs/" + escape(pointer) }
