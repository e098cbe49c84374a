package dedupe

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/connectors"
	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
	"github.com/tidemill/tidemill/lakehouse/objstore/faulty"
	"github.com/tidemill/tidemill/lakehouse/objstore/mem"
	"github.com/tidemill/tidemill/lakehouse/quarantine"
)

// tables is one process's view of a store.
type tables struct {
	store    objstore.Store
	contract *contract.Table
}

func (w tables) Landing(ctx context.Context, name string) (*connectors.Landing, error) {
	landed, err := lakehouse.Create(ctx, w.store, name, lakehouse.CreateOptions{Schema: connectors.LandedSchema(w.contract)})
	if err != nil {
		return nil, err
	}
	bad, err := lakehouse.Create(ctx, w.store, name+quarantine.Suffix, lakehouse.CreateOptions{Schema: quarantine.Schema()})
	if err != nil {
		return nil, err
	}
	byKey, byRaw := connectors.Dedupe(w.contract)
	return &connectors.Landing{
		Contract: w.contract, Table: landed,
		Landed:     lakehouse.NewAppender(landed, lakehouse.AppenderOptions{Dedupe: byKey}),
		Quarantine: lakehouse.NewAppender(bad, lakehouse.AppenderOptions{Dedupe: byRaw}),
		Committed:  func(lakehouse.Appended) {}, Observe: func(connectors.Outcome) {},
	}, nil
}

// graceExpires stops a connector whose commit hangs, for longer than it has to stop. Its
// messages come again to another, and the commit that hung goes through after all.
func graceExpires(t *testing.T, input string, send func(ctx context.Context, id, body string) error) {
	t.Helper()
	c, err := contract.Parse("tables/events.yaml", []byte(contractYAML+"key: [id]\ndedupe: {window: 1h}\n"))
	if err != nil {
		t.Fatal(err)
	}
	inner := mem.New()
	hangs, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	slow := faulty.New(inner, faulty.Options{Hook: func(_ context.Context, call faulty.Call, w faulty.When) error {
		if call.Op == faulty.PutIfAbsent && w == faulty.Before && strings.HasPrefix(call.Key, "events/") && !strings.HasSuffix(call.Key, "00.json") {
			once.Do(func() { close(hangs) })
			<-goOn
		}
		return nil
	}})
	run := func(store objstore.Store, grace time.Duration) (stop func()) {
		e, err := connectors.New(connectors.Options{Tables: tables{store, c}})
		if err != nil {
			t.Fatal(err)
		}
		conf, err := connectors.ParseConfig("in.yaml", []byte(input+"output:\n  lakehouse: {table: events, batching: {period: 10ms}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx, conf, grace) }()
		return func() {
			cancel()
			select {
			case <-ended: // with or without what it could not finish
			case <-time.After(patience):
				t.Error("the connector does not stop")
			}
		}
	}
	stop := run(slow, 200*time.Millisecond)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	sent := []string{"first"}
	for hanging := false; !hanging; { // MQTT keeps messages only for a session that there is
		if err := send(t.Context(), "first", `{"id": "first"}`); err != nil {
			t.Fatal(err)
		}
		select {
		case <-hangs:
			hanging = true
		case <-tick.C:
		}
	}
	for i := 1; i < 50; i++ {
		sent = append(sent, fmt.Sprint("g", i))
		if err := send(t.Context(), sent[i], fmt.Sprintf(`{"id": %q}`, sent[i])); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	stop = run(inner, time.Second)
	p := &project{store: inner}
	wait := func(n int) {
		t.Helper()
		deadline := time.After(patience)
		for len(p.column(t, "events", "id")) < n {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("%d of %d rows", len(p.column(t, "events", "id")), n)
			}
		}
	}
	wait(len(sent))
	close(goOn)
	if err := send(t.Context(), "last", `{"id": "last"}`); err != nil {
		t.Fatal(err)
	}
	wait(len(sent) + 1)
	stop()
	for id, n := range p.column(t, "events", "id") {
		if n != 1 {
			t.Errorf("%s is in %d times", id, n)
		}
	}
}
