package strictyaml

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/problem"
)

func TestSuggest(t *testing.T) {
	known := []string{"checks", "columns", "key", "partition_by", "score"}
	for name, want := range map[string]string{
		"check": "checks", "cehcks": "checks", "Columns": "columns", "keys": "key", "partition": "partition_by",
		"scores": "score", "retention": "", "": "", "k": "", strings.Repeat("checks", 1000): "",
	} {
		if got := Suggest(name, known); got != want {
			t.Errorf("%.20q: got %q, want %q", name, got, want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"256MiB": 256 << 20, "2GiB": 2 << 30, "1.5 KiB": 1536, "1kB": 1000, "3MB": 3_000_000, "42": 42, "42B": 42, "0": 0, "1TiB": 1 << 40,
	} {
		if got, err := parseBytes(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1MiB", "1 MiBs", "NaN", "Inf", "1e30GiB", "ten"} {
		if got, err := parseBytes(text); err == nil {
			t.Errorf("%s: got %d", text, got)
		}
	}
}

func TestInterpolate(t *testing.T) {
	env := map[string]string{"HOST": "example.com", "PORT": "99", "EMPTY": "", "BELL": "\a"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	for text, want := range map[string]string{
		`"${HOST}:${PORT}"`: "example.com:99", `"${NONE:x:y}"`: "x:y", `"${HOST:x}"`: "example.com", `"${{HOST}}"`: "${HOST}",
		`"$HOST"`: "$HOST", `"a${EMPTY}b"`: "ab",
	} {
		var ps problem.List
		n := Read("f", []byte("a: "+text), &ps)
		Interpolate(n, lookup, &ps)
		if got := n.Get("a").Text(); got != want || len(ps) > 0 {
			t.Errorf("%s: got %q, %v", text, got, ps)
		}
	}
	for text, want := range map[string]string{
		"${NONE}": "the environment variable NONE is not set; set it, or give a default: ${NONE:value}",
		"${HOST":  `"${HOST" is not a variable; write ${NAME} or ${NAME:default}, or ${{NAME}} for the text ${NAME}`,
		"${1}":    `"${1}" is not a variable; write ${NAME} or ${NAME:default}, or ${{NAME}} for the text ${NAME}`,
		"${BELL}": "the environment variable BELL holds the control character U+0007; remove it",
	} {
		var ps problem.List
		n := Read("f", []byte("\na: {b: ['"+text+"']}"), &ps)
		Interpolate(n, lookup, &ps)
		if err := ps.Err(); err == nil || err.Error() != "f:2: a.b[0]: "+want {
			t.Errorf("%s: got %v", text, err)
		}
	}
	var ps problem.List
	n := Read("f", []byte("a: ${EMPTY}\nb: ${NONE:}\nc: ''"), &ps)
	Interpolate(n, lookup, &ps)
	if n.Has("a") || n.Has("b") || !n.Has("c") || len(ps) > 0 {
		t.Errorf("empty variables: %v, %v", n.Entries, ps)
	}
}

// TestVariablesAreNotQuoted feeds wrong values through a variable; what it
// holds might be a secret that got into the wrong field.
func TestVariablesAreNotQuoted(t *testing.T) {
	spec := Spec{Kind: Object, Fields: []Field{
		{Name: "int", Spec: Spec{Kind: Integer, Max: 9}}, {Name: "bool", Spec: Spec{Kind: Boolean}}, {Name: "time", Spec: Spec{Kind: Duration}},
		{Name: "size", Spec: Spec{Kind: Bytes}}, {Name: "enum", Spec: Spec{Kind: Text, Enum: []string{"hunter"}}},
		{Name: "name", Spec: Spec{Kind: Text, Pattern: variableName, Looks: "a name"}},
	}}
	var src strings.Builder
	for _, f := range spec.Fields {
		src.WriteString(f.Name + ": ${S}\n")
	}
	var ps problem.List
	n := Read("f", []byte(src.String()), &ps)
	Interpolate(n, func(string) (string, bool) { return "hunter-2", true }, &ps)
	spec.Check(n, &ps)
	if len(ps) != len(spec.Fields) {
		t.Errorf("%d problems, want %d: %v", len(ps), len(spec.Fields), ps)
	}
	if strings.Contains(ps.Error(), "hunter-2") || !strings.Contains(ps.Error(), "${S}") {
		t.Error(ps)
	}
}

func TestFilledInValuesKeepTheirKind(t *testing.T) {
	spec := Spec{Kind: Object, Fields: []Field{
		{Name: "port", Spec: Spec{Kind: Integer, Max: 65535}}, {Name: "tls", Spec: Spec{Kind: Boolean}}, {Name: "name", Spec: Spec{Kind: Text}},
	}}
	var ps problem.List
	n := Read("f", []byte("port: ${P:9000}\ntls: ${T:true}\nname: ${N:123}"), &ps)
	Interpolate(n, func(string) (string, bool) { return "", false }, &ps)
	spec.Check(n, &ps)
	if len(ps) > 0 || n.Get("port").IntOr(0) != 9000 || !n.Get("tls").Bool() || n.Get("name").Text() != "123" {
		t.Errorf("%+v: %v", n, ps)
	}
}

func TestSecretsAreNotQuoted(t *testing.T) {
	spec := Spec{Kind: Object, Fields: []Field{{Name: "key", Spec: Spec{Kind: Text, Secret: true}}}}
	var ps problem.List
	spec.Check(Read("f", []byte("key: 12345678"), &ps), &ps)
	if want := "f:1: key: YAML takes the value for a number; put it in quotes if you mean text"; ps.Error() != want {
		t.Error(ps)
	}
}

func TestMergedFieldsKeepTheirOwnPath(t *testing.T) {
	var ps problem.List
	n := Read("f", []byte("base: &b {x: {y: [1, 2]}, z: 3}\nlist:\n  - {<<: *b, z: 4}\n"), &ps)
	item := n.Get("list").Items[0]
	if y := item.Get("x").Get("y").Items[1]; y.Path != "list[0].x.y[1]" || y.Line != 1 || item.Get("z").Value != "4" || len(ps) > 0 {
		t.Errorf("got %+v, %v", y, ps)
	}
	if y := n.Get("base").Get("x").Get("y").Items[1]; y.Path != "base.x.y[1]" {
		t.Errorf("the anchor's own field became %s", y.Path)
	}
}

func TestFlowVariablesNeedQuotes(t *testing.T) {
	var ps problem.List
	Read("f", []byte("a: {b: ${X}}\n"), &ps)
	if !strings.Contains(ps.Error(), `put variables in quotes: "${NAME}"`) {
		t.Error(ps)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.yaml", "a.yaml", "c.yml", ".d.yaml", "e.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var ps problem.List
	files, err := Files(dir, &ps)
	if want := []string{filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")}; err != nil || !reflect.DeepEqual(files, want) {
		t.Errorf("got %v, %v", files, err)
	}
	if want := filepath.Join(dir, "c.yml") + ": is not read; rename it to c.yaml"; ps.Error() != want {
		t.Errorf("got %v", ps)
	}
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, MaxSize+1); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(big); problem.Of(err) == nil {
		t.Errorf("read %d bytes: %v", MaxSize+1, err)
	}
}
