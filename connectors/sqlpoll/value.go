package sqlpoll

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// class is how a column's bytes and texts become JSON.
type class uint8

const (
	asText class = iota
	asNumber
	asJSON
	asBinary
	asDate
)

// classOf goes by the name that the driver has for the column's type.
func classOf(t *sql.ColumnType) class {
	name := strings.ToUpper(t.DatabaseTypeName())
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(name, w) {
				return true
			}
		}
		return false
	}
	switch {
	case name == "DATE" || name == "DATE32":
		return asDate
	case has("INTERVAL", "POINT", "["), strings.HasPrefix(name, "_"):
		return asText // INTERVAL has INT in it; arrays are texts
	case has("JSON", "VARIANT"):
		return asJSON
	case has("BYTEA", "BLOB", "BINARY", "RAW", "IMAGE"):
		return asBinary
	case has("INT", "SERIAL", "NUMERIC", "DECIMAL", "NUMBER", "DOUBLE", "FLOAT", "REAL"):
		return asNumber
	}
	return asText
}

// appendJSON writes a value as a driver gives it.
func appendJSON(out []byte, v any, c class) []byte {
	switch v := v.(type) {
	case nil:
		return append(out, "null"...)
	case int64:
		return strconv.AppendInt(out, v, 10)
	case bool:
		return strconv.AppendBool(out, v)
	case float64:
		return appendFloat(out, v, 64)
	case float32:
		return appendFloat(out, float64(v), 32)
	case time.Time:
		if c == asDate {
			return append(v.AppendFormat(append(out, '"'), time.DateOnly), '"')
		}
		return append(v.UTC().AppendFormat(append(out, '"'), time.RFC3339Nano), '"')
	case string:
		return appendText(out, v, c)
	case []byte:
		if c == asBinary {
			return append(base64.StdEncoding.AppendEncode(append(out, '"'), v), '"')
		}
		return appendText(out, string(v), c)
	case fmt.Stringer: // decimals, identifiers
		return appendText(out, v.String(), c)
	}
	if text, err := json.Marshal(v); err == nil {
		return append(out, text...)
	}
	return appendText(out, fmt.Sprint(v), asText)
}

func appendFloat(out []byte, v float64, bits int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) { // no JSON number; a contract that wants one turns it away
		return appendText(out, strconv.FormatFloat(v, 'g', -1, bits), asText)
	}
	return strconv.AppendFloat(out, v, 'g', -1, bits)
}

func appendText(out []byte, s string, c class) []byte {
	switch c {
	case asNumber:
		if json.Valid([]byte(s)) && (s[0] == '-' || s[0]-'0' <= 9) {
			return append(out, s...)
		}
	case asJSON:
		var b bytes.Buffer
		if json.Compact(&b, []byte(s)) == nil {
			return append(out, b.Bytes()...)
		}
	case asBinary:
		return append(base64.StdEncoding.AppendEncode(append(out, '"'), []byte(s)), '"')
	case asText, asDate:
	}
	text, err := json.Marshal(s)
	if err != nil {
		return append(out, "null"...) // a string has no error
	}
	return append(out, text...)
}

// key is one value of a cursor, as the state has it.
type key struct {
	Kind  string `json:"t"` // i, f, s, t: integer, floating point, string, time
	Value string `json:"v"`
}

// keyOf returns a cursor column's value; problem says why it cannot be one.
func keyOf(v any, c class) (k key, problem string) {
	switch v := v.(type) {
	case nil:
		return k, "is null in a row; a cursor's columns must never be"
	case time.Time:
		return key{"t", v.UTC().Format(time.RFC3339Nano)}, ""
	case string:
		return textKey(v, c), ""
	case []byte:
		if c == asBinary {
			return k, "is binary; use a number, a text or a time"
		}
		return textKey(string(v), c), ""
	case bool:
		return k, "is true or false, and cannot grow"
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return key{"i", strconv.FormatInt(r.Int(), 10)}, ""
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return textKey(strconv.FormatUint(r.Uint(), 10), asNumber), ""
	case reflect.Float32, reflect.Float64:
		return key{"f", strconv.FormatFloat(r.Float(), 'g', -1, 64)}, ""
	}
	if s, ok := v.(fmt.Stringer); ok {
		return key{"s", s.String()}, ""
	}
	return k, fmt.Sprintf("has a type that cannot be a cursor (%T); use a number, a text or a time", v)
}

// textKey keeps numbers numbers: some databases compare a text with a number by
// rounding both.
func textKey(s string, c class) key {
	if c == asNumber {
		if _, err := strconv.ParseInt(s, 10, 64); err == nil {
			return key{"i", s}
		}
	}
	return key{"s", s}
}

// value returns what the key is bound as.
func (k key) value() (any, error) {
	switch k.Kind {
	case "i":
		return strconv.ParseInt(k.Value, 10, 64)
	case "f":
		return strconv.ParseFloat(k.Value, 64)
	case "t":
		return time.Parse(time.RFC3339Nano, k.Value)
	case "s":
		return k.Value, nil
	}
	return nil, fmt.Errorf("unknown type %q", k.Kind)
}

func values(keys []key) ([]any, error) {
	if keys == nil {
		return nil, nil
	}
	out := make([]any, len(keys))
	for i, k := range keys {
		var err error
		if out[i], err = k.value(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
