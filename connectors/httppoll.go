package connectors

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/bloblang"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/connectors/httppoll"
)

// httpPoll is the http_poll input: an HTTP API, page by page.
const httpPoll = "http_poll"

func httpPollSpec() *service.ConfigSpec {
	str, dur := service.NewStringField, service.NewDurationField
	return service.NewConfigSpec().
		Stable().
		Categories("Tidemill").
		Summary("Reads an HTTP API page by page, and goes on where the table's rows end.").
		Description("The cursor of the next page is committed with the rows, in the table's own log.").
		Fields(
			str("url").Description("The first page's address."),
			service.NewStringMapField("headers").Description("Sent with every request, to the host of `url` only; take keys from the environment: \"Bearer ${API_TOKEN}\".").Secret().Default(map[string]any{}),
			str("rows").Description("Where the array of rows stands in a response, such as data.items; by default it is the response itself. An object in its place is one row.").Default(""),
			service.NewBloblangField("next").Description("From a response to the cursor of the next page: a text or a number, null where there is none. `this` is the body, metadata has the headers. Without it and without `follow_link`, every response is new rows.").Optional(),
			service.NewBoolField("follow_link").Description("The next page is the one that the Link header names with rel=\"next\".").Default(false),
			str("cursor_param").Description("The query parameter that the cursor goes into; by default the cursor is the next page's address.").Default(""),
			str("start").Description("The first cursor, with `cursor_param`.").Default(""),
			dur("interval").Description("How long to wait when there is nothing new.").Default("1m"),
			dur("timeout").Description("Of one request.").Default("30s"),
			service.NewIntField("max_response_bytes").Description("A longer response is an error.").Default(32<<20).Advanced(),
			str("rate_limit").Description("A rate limit resource that is asked before each request.").Default("").Advanced(),
		).
		Fields(pagedFields()...).
		LintRule(`root = match {
  this.follow_link.or(false) && this.exists("next") => "follow_link is another way to name the next page than next; remove one of them",
  this.follow_link.or(false) && this.cursor_param.or("") != "" => "cursor_param has no use with follow_link, where the header has the next page's whole address; remove it",
  this.cursor_param.or("") != "" && !this.exists("next") => "cursor_param needs next, a mapping from a response to the cursor behind it",
  this.start.or("") != "" && this.cursor_param.or("") == "" => "start needs cursor_param, the query parameter that it goes into",
}`)
}

func newHTTPPoll(e *Engine) service.BatchInputConstructor {
	return func(conf *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
		p := &parsed{conf: conf}
		in, err := newPaged(e, httpPoll, p)
		if err != nil {
			return nil, err
		}
		c := httppoll.Config{
			URL: p.str("url"), Headers: field(p, conf.FieldStringMap, []string{"headers"}), Rows: p.str("rows"),
			FollowLink: p.bool("follow_link"), Param: p.str("cursor_param"), Start: p.str("start"),
			Interval: p.duration("interval"), Timeout: p.duration("timeout"), MaxBody: int64(p.int("max_response_bytes")),
			Limit: p.limit(res),
		}
		if conf.Contains("next") {
			c.Next = nextBy(field(p, conf.FieldBloblang, []string{"next"}))
		}
		poller, err := httppoll.New(c)
		p.errs = append(p.errs, err)
		if err := p.err(); err != nil {
			return nil, err
		}
		in.pager = poller
		if !poller.Repeats() {
			in.partition = poller.Partition()
		}
		return in, nil
	}
}

// nextBy finds a response's next cursor by a mapping.
func nextBy(mapping *bloblang.Executor) func([]byte, http.Header) (string, error) {
	return func(body []byte, header http.Header) (string, error) {
		m := service.NewMessage(body)
		for name, v := range header {
			m.MetaSetMut(strings.ToLower(name), v[0])
		}
		res, err := m.BloblangQuery(mapping)
		if err != nil || res == nil { // nil: deleted
			return "", err
		}
		v, err := res.AsStructured()
		if err != nil { // a text that is no JSON is one as well
			text, terr := res.AsBytes()
			return string(text), terr
		}
		switch v := v.(type) {
		case nil:
			return "", nil
		case string:
			return v, nil
		case map[string]any, []any, bool:
			return "", errors.New("the mapping must give a text, a number or null")
		}
		text, err := res.AsBytes()
		if err != nil {
			return "", fmt.Errorf("cursor: %w", err)
		}
		return string(text), nil
	}
}
