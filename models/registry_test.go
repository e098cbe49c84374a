package models_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/models"
)

func newRegistry(store models.Store) *models.Registry {
	return models.NewRegistry(store, "models", models.RegistryOptions{Now: func() time.Time { return time.Unix(1700000000, 0) }})
}

// variant makes another valid model with the same signature: a doc_string is appended.
func variant(data []byte, n int) []byte {
	doc := fmt.Sprintf("variant %d", n)
	return append(append([]byte{}, data...), append([]byte{6<<3 | 2, byte(len(doc))}, doc...)...)
}

func TestRegisterAndResolve(t *testing.T) {
	store, data := newStore(), readModel(t, "linear")
	r := newRegistry(store)
	passed := []models.GateResult{{Check: models.CheckFormat, Passed: true}}
	v1, err := r.Register(t.Context(), models.Candidate{Name: "fraud", Data: data, Source: "linear.onnx"}, passed)
	if err != nil {
		t.Fatal(err)
	}
	v2, err := r.Register(t.Context(), models.Candidate{Name: "fraud", Data: variant(data, 2)}, passed)
	if err != nil {
		t.Fatal(err)
	}
	again, err := newRegistry(store).Register(t.Context(), models.Candidate{Name: "fraud", Data: data}, passed)
	if err != nil {
		t.Fatal(err)
	}
	if v1.Version != 1 || v2.Version != 2 || again.Version != 1 || again.Source != "linear.onnx" {
		t.Errorf("versions %d, %d and %+v", v1.Version, v2.Version, again)
	}
	if len(v1.Signature.Inputs) != 1 || v1.Signature.Inputs[0].String() != "x float32[?,3]" || v1.Producer != "make.py" {
		t.Errorf("%+v", v1)
	}
	for _, reg := range []*models.Registry{r, newRegistry(store)} {
		got, err := reg.Resolve(t.Context(), "fraud@2")
		if err != nil || got.SHA256 != v2.SHA256 {
			t.Fatalf("resolve: %+v, %v", got, err)
		}
		loaded, err := reg.Load(t.Context(), got)
		if err != nil || string(loaded) != string(variant(data, 2)) {
			t.Fatalf("load: %v", err)
		}
	}
	store.objects["models/fraud/blobs/"+v2.SHA256+".onnx"][5] ^= 1
	if _, err := r.Load(t.Context(), v2); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("load of a damaged model: %v", err)
	}
}

func TestRegisterRefuses(t *testing.T) {
	r, data := newRegistry(newStore()), readModel(t, "linear")
	failed := []models.GateResult{{Check: models.CheckFormat, Passed: true}, {Check: models.CheckLatency, Detail: "too slow"}}
	_, err := r.Register(t.Context(), models.Candidate{Name: "fraud", Data: data}, failed)
	var gate *models.GateError
	if !errors.As(err, &gate) || len(gate.Results) != 1 || !strings.Contains(err.Error(), "latency: too slow") {
		t.Errorf("a failed check: %v", err)
	}
	if _, err := r.Register(t.Context(), models.Candidate{Name: "Fraud!", Data: data}, nil); err == nil {
		t.Error("a bad name")
	}
	if _, err := r.Register(t.Context(), models.Candidate{Name: "fraud", Data: []byte("\x80\x04\x95pickle")}, nil); !errors.Is(err, models.ErrNotONNX) {
		t.Errorf("a pickle: %v", err)
	}
	if list, err := r.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestNotFound(t *testing.T) {
	r := newRegistry(newStore())
	check := func(ref, text string) {
		t.Helper()
		_, err := r.Resolve(t.Context(), ref)
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	check("fraud@champion", "there is no model fraud); register a model under this alias with `tidemill model register`")
	if _, err := r.Register(t.Context(), models.Candidate{Name: "fraud", Data: readModel(t, "linear")}, nil); err != nil {
		t.Fatal(err)
	}
	check("fraud@champion", "fraud has 1 versions and no alias champion")
	check("fraud@2", "the latest version of fraud is 1")
	if _, err := r.Resolve(t.Context(), "fraud"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no reference: %v", err)
	}
	if err := r.SetAlias(t.Context(), "fraud", "champion", 2, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("alias of no version: %v", err)
	}
}

func TestConcurrentRegistration(t *testing.T) {
	store, data := newStore(), readModel(t, "linear")
	const registrars, kinds = 16, 5
	var wg sync.WaitGroup
	got := make([]models.Version, registrars)
	for i := range registrars {
		wg.Go(func() {
			var err error
			got[i], err = newRegistry(store).Register(t.Context(), models.Candidate{Name: "fraud", Data: variant(data, i%kinds)}, nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, v := range got {
		if v.Version != got[i%kinds].Version || v.Version < 1 || v.Version > kinds {
			t.Errorf("registrar %d got version %d, another with the same bytes %d", i, v.Version, got[i%kinds].Version)
		}
	}
	list, err := newRegistry(store).List(t.Context())
	if err != nil || len(list) != 1 || len(list[0].Versions) != kinds {
		t.Fatalf("%+v, %v", list, err)
	}
}

func TestLostAnswers(t *testing.T) {
	store, data := newStore(), readModel(t, "linear")
	seen := map[string]int{}
	store.before = func(key string) error { // the first attempt of every write does not arrive
		if seen[key]++; seen[key] == 1 {
			return errLost
		}
		return nil
	}
	store.doubt = func(string) error { return errLost } // and no answer ever does
	r := newRegistry(store)
	for i := range 3 {
		v, err := r.Register(t.Context(), models.Candidate{Name: "fraud", Data: variant(data, i)}, nil)
		if err != nil || v.Version != i+1 {
			t.Fatalf("register %d: %+v, %v", i, v, err)
		}
	}
	if err := r.SetAlias(t.Context(), "fraud", "champion", 2, 0); err != nil {
		t.Fatal(err)
	}
	if v, err := r.Resolve(t.Context(), "fraud@champion"); err != nil || v.Version != 2 {
		t.Fatalf("%+v, %v", v, err)
	}
	store.before = func(string) error { return errLost }
	if _, err := r.Register(t.Context(), models.Candidate{Name: "fraud", Data: variant(data, 9)}, nil); !errors.Is(err, errLost) {
		t.Errorf("a store that is down: %v", err)
	}
}

func TestAliases(t *testing.T) {
	store, data := newStore(), readModel(t, "linear")
	r := newRegistry(store)
	for i := range 3 {
		if _, err := r.Register(t.Context(), models.Candidate{Name: "fraud", Data: variant(data, i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	set := func(version, expect int) error {
		return newRegistry(store).SetAlias(t.Context(), "fraud", "champion", version, expect)
	}
	var moved *models.AliasMovedError
	if err := set(1, 2); !errors.As(err, &moved) || moved.Have != 0 {
		t.Errorf("not set yet: %v", err)
	}
	if err := errors.Join(set(1, 0), set(1, 0), set(2, 1)); err != nil {
		t.Fatal(err)
	}
	if err := set(3, 1); !errors.As(err, &moved) || moved.Have != 2 {
		t.Errorf("moved: %v", err)
	}
	if v, err := r.Resolve(t.Context(), "fraud@champion"); err != nil || v.Version != 2 {
		t.Fatalf("%+v, %v", v, err)
	}
	if err := set(1, 2); err != nil { // back again
		t.Fatal(err)
	}
	if v, err := r.Resolve(t.Context(), "fraud@champion"); err != nil || v.Version != 1 {
		t.Fatalf("a registry that had seen the alias before: %+v, %v", v, err)
	}
	log, err := r.AliasLog(t.Context(), "fraud", "champion")
	if err != nil || len(log) != 3 || log[2].Version != 1 || log[2].Previous != 2 {
		t.Errorf("%+v, %v", log, err)
	}
	list, err := r.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Aliases["champion"] != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestOneMovesTheAlias(t *testing.T) {
	store, data := newStore(), readModel(t, "linear")
	const movers = 12
	r := newRegistry(store)
	for i := range movers + 1 {
		if _, err := r.Register(t.Context(), models.Candidate{Name: "fraud", Data: variant(data, i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.SetAlias(t.Context(), "fraud", "champion", 1, 0); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make([]error, movers)
	for i := range movers {
		wg.Go(func() { errs[i] = newRegistry(store).SetAlias(t.Context(), "fraud", "champion", i+2, 1) })
	}
	wg.Wait()
	var winners []int
	for i, err := range errs {
		var moved *models.AliasMovedError
		if err == nil {
			winners = append(winners, i+2)
		} else if !errors.As(err, &moved) {
			t.Error(err)
		}
	}
	if len(winners) != 1 {
		t.Fatalf("the alias was moved by %v", winners)
	}
	if v, err := r.Resolve(t.Context(), "fraud@champion"); err != nil || v.Version != winners[0] {
		t.Errorf("alias names %d, version %d won; %v", v.Version, winners[0], err)
	}
}

func TestParseRef(t *testing.T) {
	for _, s := range []string{"fraud@champion", "fraud@3", "a-b_1@x"} {
		if r, err := models.ParseRef(s); err != nil || r.String() != s {
			t.Errorf("%s: %+v, %v", s, r, err)
		}
	}
	for _, s := range []string{"", "fraud", "fraud@", "@3", "fraud@0", "fraud@-1", "Fraud@3", "fraud@3@4", "fraud@1x", "fraud@9999999999"} {
		if r, err := models.ParseRef(s); err == nil {
			t.Errorf("%s: %+v", s, r)
		}
	}
}
