package connectors

import (
	"context"
	"errors"
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/internal/batch"
	"github.com/tidemill/tidemill/lakehouse"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// resumed lists the inputs of ours that go on where the table's log says, or want to
// know the table for another reason. Their config is told whose they are, in the
// fields of resumeFields.
var resumed = map[string]bool{httpServer: true, httpPoll: true, sqlPoll: true, postgresChanges: true}

// Fields that a connector file does not have: they are filled in before it runs.
const (
	ownerConnector = "tidemill_connector"
	ownerTable     = "tidemill_table"
)

func resumeFields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringField(ownerConnector).Description("Set by Tidemill itself.").Default("").Advanced(),
		service.NewStringField(ownerTable).Description("Set by Tidemill itself.").Default("").Advanced(),
	}
}

// resumer asks the log of a connector's table where an input's partitions go on. The
// cursors in it came in with rows, so where it says to go on nothing is missing before.
type resumer struct {
	tables           Tables
	connector, table string
}

func newResumer(conf *service.ParsedConfig, tables Tables) (*resumer, error) {
	r := &resumer{tables: tables}
	var err error
	if r.connector, err = conf.FieldString(ownerConnector); err != nil {
		return nil, err
	}
	if r.table, err = conf.FieldString(ownerTable); err != nil {
		return nil, err
	}
	return r, nil
}

// standing is how far a partition has come.
type standing struct {
	lakehouse.Cursor
	Found bool            // there is a cursor; offsets go on behind it
	In    batch.Intervals // offsets that are in, some of them perhaps behind the cursor
}

// at returns where a partition stands, by the newest state of the tables that its rows
// go to. The name is without the connector's, as the input gives it in positions.
// It fails while the store cannot be reached, and may be asked again.
func (r *resumer) at(ctx context.Context, partition string) (s standing, err error) {
	l, err := r.landing(ctx)
	if err != nil {
		return s, err
	}
	s.Cursor, s.Found, s.In, err = lakehouse.ResumeAt(ctx, r.connector+"/"+partition, l.Landed, l.Quarantine)
	return s, err
}

// pages is where the connector's inputs keep pages that are on their way.
func (r *resumer) pages(ctx context.Context) (objstore.Store, error) {
	l, err := r.landing(ctx)
	if err != nil {
		return nil, err
	}
	return objstore.WithPrefix(l.Pages, r.connector), nil
}

func (r *resumer) landing(ctx context.Context) (*Landing, error) {
	if r.tables == nil || r.table == "" {
		return nil, errors.New("the input goes on where its table's log says, and must be run by tidemill")
	}
	l, err := r.tables.Landing(ctx, r.table)
	if err != nil {
		return nil, fmt.Errorf("open table %s: %w", r.table, err)
	}
	return l, nil
}
