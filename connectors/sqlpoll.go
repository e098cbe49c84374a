package connectors

import (
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/sqlpoll"
	"github.com/tidemill/tidemill/internal/secret"
)

// sqlPoll is the sql_poll input: a SQL table, by a cursor column.
const sqlPoll = "sql_poll"

func sqlPollSpec() *service.ConfigSpec {
	str, list, dur := service.NewStringField, service.NewStringListField, service.NewDurationField
	return service.NewConfigSpec().
		Stable().
		Categories("Tidemill").
		Summary("Reads the new rows of a SQL table by a cursor column, and goes on where the table's rows end.").
		Description("The values of the cursor's columns in the last row are committed with the rows, in the table's own log.").
		Fields(
			service.NewStringEnumField("driver", sqlpoll.Drivers()...).Description("The kind of database."),
			str("dsn").Description("How to reach it; take it from the environment: \"${DATABASE_URL}\".").Secret(),
			str("table").Description("The table, as SQL has it.").Default(""),
			str("query").Description("A SELECT in the place of a table.").Default(""),
			list("columns").Description("The columns to read; by default all.").Default([]any{}),
			str("where").Description("A condition on the rows.").Default(""),
			list("cursor").Description("The columns that together are unique and grow, such as [id] or [updated_at, id]. An index on them makes each look cheap."),
			dur("interval").Description("How long to wait when there is nothing new.").Default("1s"),
			service.NewIntField("batch").Description("Rows that are read at a time, at most.").Default(5000),
			dur("settle").Description("How long after a value was seen rows up to it are read: at least as long as the longest transaction that writes rows, or rows that are committed late are passed over.").Default("0s"),
			dur("timeout").Description("Of one query.").Default("1m").Advanced(),
		).
		Fields(pagedFields()...).
		LintRule(`root = match {
  this.table.or("") == "" && this.query.or("") == "" => "name a table, or give a query",
  this.table.or("") != "" && this.query.or("") != "" => "name a table or give a query, and not both",
  this.cursor.or([]).length() == 0 => "cursor names no column; name those that together are unique and grow, such as [id]",
}`)
}

func newSQLPoll(e *Engine) service.BatchInputConstructor {
	return func(conf *service.ParsedConfig, _ *service.Resources) (service.BatchInput, error) {
		p := &parsed{conf: conf}
		in, err := newPaged(e, sqlPoll, p)
		if err != nil {
			return nil, err
		}
		poller, err := sqlpoll.New(sqlpoll.Config{
			Driver: p.str("driver"), DSN: secret.New(p.str("dsn")), Table: p.str("table"), Query: p.str("query"),
			Columns: p.strings("columns"), Where: p.str("where"), Cursor: p.strings("cursor"),
			Batch: p.int("batch"), Interval: p.duration("interval"), Settle: p.duration("settle"), Timeout: p.duration("timeout"),
		})
		p.errs = append(p.errs, err)
		if err := p.err(); err != nil {
			return nil, err
		}
		in.pager, in.partition = poller, poller.Partition()
		return in, nil
	}
}
