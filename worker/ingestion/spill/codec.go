package spill

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// Schema describes the struct that v points to, field by field: two versions of the program with the same schema can read each
// other's records.
func Schema(v any) string {
	var b strings.Builder
	describe(&b, reflect.TypeOf(v).Elem(), map[reflect.Type]bool{})
	return b.String()
}

func describe(b *strings.Builder, t reflect.Type, seen map[reflect.Type]bool) {
	switch t.Kind() {
	case reflect.Struct:
		if seen[t] {
			b.WriteString("^" + t.Name())
			return
		}
		seen[t] = true
		b.WriteString(t.Name() + "{")
		for _, f := range reflect.VisibleFields(t) {
			if len(f.Index) == 1 {
				b.WriteString(f.Name + ":")
				describe(b, f.Type, seen)
				b.WriteByte(';')
			}
		}
		b.WriteByte('}')
	case reflect.Slice:
		b.WriteString("[]")
		describe(b, t.Elem(), seen)
	case reflect.Array:
		b.WriteString("[" + strconv.Itoa(t.Len()) + "]")
		describe(b, t.Elem(), seen)
	default:
		b.WriteString(t.Kind().String())
	}
}

// codec encodes and decodes one type.
type codec struct {
	put func(b []byte, v reflect.Value) ([]byte, error)
	get func(b []byte, v reflect.Value) ([]byte, error)
}

var codecs sync.Map // reflect.Type -> *codec

func encode(b []byte, v any) ([]byte, error) {
	rv := reflect.ValueOf(v).Elem()
	return codecOf(rv.Type()).put(b, rv)
}

func decode(b []byte, v any) error {
	rv := reflect.ValueOf(v).Elem()
	rest, err := codecOf(rv.Type()).get(b, rv)
	if err == nil && len(rest) > 0 {
		err = ErrDamaged
	}
	return err
}

// codecOf builds the codec of a type once. A struct that contains itself finds its own, unfinished codec, which is complete by the
// time it is called.
func codecOf(t reflect.Type) *codec {
	if c, ok := codecs.Load(t); ok {
		return c.(*codec)
	}
	building.Lock()
	defer building.Unlock()
	made := map[reflect.Type]*codec{}
	c := build(t, made)
	for t, c := range made {
		codecs.Store(t, c)
	}
	return c
}

var building sync.Mutex

func build(t reflect.Type, made map[reflect.Type]*codec) *codec {
	if c, ok := codecs.Load(t); ok {
		return c.(*codec)
	}
	if c := made[t]; c != nil {
		return c
	}
	c := &codec{}
	made[t] = c
	switch t.Kind() {
	case reflect.String:
		*c = codec{putString, getString}
	case reflect.Bool:
		*c = codec{putBool, getBool}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		*c = codec{putInt, getInt}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		*c = codec{putUint, getUint}
	case reflect.Float64:
		*c = codec{putFloat, getFloat}
	case reflect.Struct:
		*c = structCodec(t, made)
	case reflect.Slice:
		*c = sliceCodec(t, build(t.Elem(), made))
	case reflect.Array:
		*c = arrayCodec(t.Len(), build(t.Elem(), made))
	default:
		*c = codec{putJSON, getJSON}
	}
	return c
}

func structCodec(t reflect.Type, made map[reflect.Type]*codec) codec {
	fields := make([]*codec, t.NumField())
	for i := range fields {
		if !t.Field(i).IsExported() {
			refuse := func(b []byte, _ reflect.Value) ([]byte, error) {
				return b, fmt.Errorf("%s has an unexported field and cannot be spilled", t)
			}
			return codec{refuse, refuse}
		}
		fields[i] = build(t.Field(i).Type, made)
	}
	return codec{
		put: func(b []byte, v reflect.Value) (_ []byte, err error) {
			for i, f := range fields {
				if b, err = f.put(b, v.Field(i)); err != nil {
					return b, err
				}
			}
			return b, nil
		},
		get: func(b []byte, v reflect.Value) (_ []byte, err error) {
			for i, f := range fields {
				if b, err = f.get(b, v.Field(i)); err != nil {
					return b, err
				}
			}
			return b, nil
		},
	}
}

// sliceCodec distinguishes nil from empty: 0 is nil, n+1 is a slice of n.
func sliceCodec(t reflect.Type, elem *codec) codec {
	return codec{
		put: func(b []byte, v reflect.Value) (_ []byte, err error) {
			if v.IsNil() {
				return append(b, 0), nil
			}
			n := v.Len()
			b = binary.AppendUvarint(b, uint64(n)+1)
			for i := range n {
				if b, err = elem.put(b, v.Index(i)); err != nil {
					return b, err
				}
			}
			return b, nil
		},
		get: func(b []byte, v reflect.Value) (_ []byte, err error) {
			n, b, err := length(b)
			if err != nil || n == 0 {
				v.SetZero()
				return b, err
			}
			n--
			s := reflect.MakeSlice(t, n, n)
			for i := range n {
				if b, err = elem.get(b, s.Index(i)); err != nil {
					return b, err
				}
			}
			v.Set(s)
			return b, nil
		},
	}
}

func arrayCodec(n int, elem *codec) codec {
	return codec{
		put: func(b []byte, v reflect.Value) (_ []byte, err error) {
			for i := range n {
				if b, err = elem.put(b, v.Index(i)); err != nil {
					return b, err
				}
			}
			return b, nil
		},
		get: func(b []byte, v reflect.Value) (_ []byte, err error) {
			for i := range n {
				if b, err = elem.get(b, v.Index(i)); err != nil {
					return b, err
				}
			}
			return b, nil
		},
	}
}

func length(b []byte) (int, []byte, error) {
	n, k := binary.Uvarint(b)
	// A slice has at most as many elements as bytes follow, unless its elements are structs without fields.
	if k <= 0 || n > uint64(len(b)-k)+1 {
		return 0, b, ErrDamaged
	}
	return int(n), b[k:], nil
}

func putString(b []byte, v reflect.Value) ([]byte, error) {
	s := v.String()
	return append(binary.AppendUvarint(b, uint64(len(s))), s...), nil
}

func getString(b []byte, v reflect.Value) ([]byte, error) {
	n, b, err := length(b)
	if err != nil || n > len(b) {
		return b, ErrDamaged
	}
	v.SetString(string(b[:n]))
	return b[n:], nil
}

func putBool(b []byte, v reflect.Value) ([]byte, error) {
	if v.Bool() {
		return append(b, 1), nil
	}
	return append(b, 0), nil
}

func getBool(b []byte, v reflect.Value) ([]byte, error) {
	if len(b) == 0 || b[0] > 1 {
		return b, ErrDamaged
	}
	v.SetBool(b[0] == 1)
	return b[1:], nil
}

func putInt(b []byte, v reflect.Value) ([]byte, error) { return binary.AppendVarint(b, v.Int()), nil }

func getInt(b []byte, v reflect.Value) ([]byte, error) {
	n, k := binary.Varint(b)
	if k <= 0 || v.OverflowInt(n) {
		return b, ErrDamaged
	}
	v.SetInt(n)
	return b[k:], nil
}

func putUint(b []byte, v reflect.Value) ([]byte, error) {
	return binary.AppendUvarint(b, v.Uint()), nil
}

func getUint(b []byte, v reflect.Value) ([]byte, error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || v.OverflowUint(n) {
		return b, ErrDamaged
	}
	v.SetUint(n)
	return b[k:], nil
}

func putFloat(b []byte, v reflect.Value) ([]byte, error) {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(v.Float())), nil
}

func getFloat(b []byte, v reflect.Value) ([]byte, error) {
	if len(b) < 8 {
		return b, ErrDamaged
	}
	v.SetFloat(math.Float64frombits(binary.LittleEndian.Uint64(b)))
	return b[8:], nil
}

// putJSON encodes types of free form as JSON: maps and interfaces.
func putJSON(b []byte, v reflect.Value) ([]byte, error) {
	data, err := json.Marshal(v.Interface())
	if err != nil {
		return b, err
	}
	return append(binary.AppendUvarint(b, uint64(len(data))), data...), nil
}

func getJSON(b []byte, v reflect.Value) ([]byte, error) {
	n, b, err := length(b)
	if err != nil || n > len(b) {
		return b, ErrDamaged
	}
	v.SetZero()
	return b[n:], json.Unmarshal(b[:n], v.Addr().Interface())
}
