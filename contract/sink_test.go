package contract

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestSinks(t *testing.T) {
	plain, err := Load("testdata/transactions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	with, err := Load("testdata/transactions_sinks.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(plain.Sinks()) != 0 || len(with.Sinks()) != 1 {
		t.Fatalf("%d and %d sinks", len(plain.Sinks()), len(with.Sinks()))
	}
	s := with.Sinks()[0]
	if s.Output.Get("redis_streams").Get("stream").Text() != "alerts" {
		t.Errorf("the output is %+v", s.Output)
	}
	s.Output = nil
	want := Sink{Name: "alerts", Where: "fraud_score > 0.9", Start: StartNewest, Count: 500, Bytes: 4 << 20, MaxInFlight: 1, Attempts: 3, Timeout: 30 * time.Second}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
	// Sinks change no row, and what they hold may be secret.
	text, err := with.JSON()
	if err != nil || strings.Contains(string(text), "redis") {
		t.Errorf("%s, %v", text, err)
	}
	none, err := Parse("t.yaml", with.json)
	if err != nil || none.Version() != with.Version() {
		t.Errorf("the version is %s with sinks, %s without; %v", with.Version(), none.Version(), err)
	}
}
