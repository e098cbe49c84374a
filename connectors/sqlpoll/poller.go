package sqlpoll

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/connectors/paging"
	"github.com/tidemill/tidemill/internal/secret"
)

// Config of a [Poller].
type Config struct {
	Driver  string // one of Drivers
	DSN     secret.String
	Table   string   // as SQL has it; or Query
	Query   string   // a SELECT
	Columns []string // none: all
	Where   string   // a condition; "": none
	Cursor  []string // columns, the first changing most slowly

	Batch    int           // rows of a page
	Interval time.Duration // between looks for new rows
	Settle   time.Duration // 0: rows are read as soon as they are seen
	Timeout  time.Duration // of a query
	Now      func() time.Time
}

// pageBytes ends a page early, so that long rows take no more memory than short ones.
const pageBytes = 4 << 20

// Poller implements [paging.Pager].
type Poller struct {
	c     Config
	d     dialect
	db    *sql.DB
	hide  *strings.Replacer // the DSN and the password in it
	after []key             // behind which rows are read; nil: from the first
	idle  bool              // the last page was not full
	seen  *horizon          // that has not settled yet
	upTo  []key             // rows up to it have settled
}

// horizon is the highest cursor that there was at a time.
type horizon struct {
	keys []key
	at   time.Time
}

// New returns a poller at the beginning, or what is wrong with its configuration. It
// does not connect.
func New(c Config) (*Poller, error) {
	d, ok := dialects[c.Driver]
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !ok {
		bad("driver: %q is not known; use one of %s", c.Driver, strings.Join(Drivers(), ", "))
	}
	if c.DSN.Empty() {
		bad("dsn: missing; take it from the environment: \"${DATABASE_URL}\"")
	}
	if (c.Table == "") == (c.Query == "") {
		bad("table: name a table, or give a query, and not both")
	}
	if len(c.Cursor) == 0 {
		bad("cursor: missing; name the columns that together are unique and grow, such as [id] or [updated_at, id]")
	}
	if c.Batch <= 0 {
		bad("batch: must be more than 0")
	}
	if c.Interval <= 0 || c.Timeout <= 0 {
		bad("interval and timeout: must be more than 0")
	}
	if c.Settle < 0 {
		bad("settle: must not be less than 0")
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Poller{c: c, d: d, hide: hider(c.DSN.Reveal())}
	var err error
	if p.db, err = sql.Open(d.driver, c.DSN.Reveal()); err != nil {
		return nil, fmt.Errorf("dsn: %w", p.hidden(err))
	}
	p.db.SetMaxOpenConns(2)
	p.db.SetConnMaxIdleTime(time.Minute)
	return p, nil
}

// plain is a column's name as results have it, in lower case.
func plain(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name = name[i+1:]
	}
	return strings.ToLower(strings.Trim(name, "\"`[]"))
}

var (
	passwordField = regexp.MustCompile(`(?i)(?:password|pwd)\s*=\s*('[^']*'|[^\s;&]+)`)
	userPassword  = regexp.MustCompile(`^[^:@/]*:(.*)@`)
)

// hider masks what a DSN has that nobody may see.
func hider(dsn string) *strings.Replacer {
	found := []string{dsn}
	if u, err := url.Parse(dsn); err == nil && u.User != nil {
		if pw, ok := u.User.Password(); ok {
			found = append(found, pw, url.QueryEscape(pw), url.PathEscape(pw))
		}
	}
	_, rest, _ := strings.Cut(dsn, "://")
	if rest == "" {
		rest = dsn
	}
	for _, re := range []*regexp.Regexp{passwordField, userPassword} {
		if m := re.FindStringSubmatch(rest); m != nil {
			found = append(found, m[1], strings.Trim(m[1], "'"))
		}
	}
	var pairs []string
	for _, s := range found {
		if s != "" {
			pairs = append(pairs, s, secret.Mask)
		}
	}
	return strings.NewReplacer(pairs...)
}

func (p *Poller) hidden(err error) error {
	if text := err.Error(); p.hide.Replace(text) != text {
		return errors.New(p.hide.Replace(text))
	}
	return err
}

// QueryPartition is the partition of a query.
const QueryPartition = "query"

// Partition names the source.
func (p *Poller) Partition() string {
	if p.c.Table != "" {
		return p.c.Table
	}
	return QueryPartition
}

// Resume implements [paging.Pager].
func (p *Poller) Resume(state string) error {
	p.after, p.idle, p.seen, p.upTo = nil, false, nil, nil
	if state == "" {
		return nil
	}
	var keys []key
	if err := json.Unmarshal([]byte(state), &keys); err != nil {
		return fmt.Errorf("the cursor in the table's log is not one of sql_poll: %w", err)
	}
	if _, err := values(keys); err != nil || len(keys) != len(p.c.Cursor) {
		return fmt.Errorf("the cursor in the table's log is not of the columns %s; name those it was made with, or rename the connector to begin anew", strings.Join(p.c.Cursor, ", "))
	}
	p.after = keys
	return nil
}

// Close implements [paging.Pager].
func (p *Poller) Close() error {
	if err := p.db.Close(); err != nil {
		return p.hidden(err)
	}
	return nil
}

// Next implements [paging.Pager].
func (p *Poller) Next(ctx context.Context) (paging.Page, error) {
	for {
		if p.idle {
			if err := paging.Sleep(ctx, p.rest()); err != nil {
				return paging.Page{}, err
			}
			p.idle = false
		}
		page, err := p.look(ctx)
		if err != nil && ctx.Err() != nil {
			return paging.Page{}, ctx.Err()
		}
		if err != nil {
			return paging.Page{}, &paging.Unavailable{Err: fmt.Errorf("%s: %w", p.Partition(), p.hidden(err))}
		}
		if len(page.Rows) > 0 {
			return page, nil
		}
		p.idle = true
	}
}

// rest is how long nothing new can be expected.
func (p *Poller) rest() time.Duration {
	d := p.c.Interval
	if p.seen != nil {
		d = min(d, p.seen.at.Add(p.c.Settle).Sub(p.c.Now()))
	}
	return max(d, time.Millisecond)
}

// look reads the next page, as far as rows have settled.
func (p *Poller) look(ctx context.Context) (paging.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, p.c.Timeout)
	defer cancel()
	if p.c.Settle > 0 {
		if err := p.settle(ctx); err != nil || p.upTo == nil {
			return paging.Page{}, err
		}
	}
	after, err := values(p.after)
	if err != nil {
		return paging.Page{}, err
	}
	upTo, err := values(p.upTo)
	if err != nil {
		return paging.Page{}, err
	}
	// One more, to see whether it has the same cursor as the last one.
	text, args := p.c.page(p.d, after, upTo, p.c.Batch+1)
	rows, err := p.db.QueryContext(ctx, text, args...)
	if err != nil {
		return paging.Page{}, err
	}
	defer rows.Close()
	r, err := p.newReader(rows)
	if err != nil {
		return paging.Page{}, err
	}
	page, err := p.take(r)
	if err == nil {
		err = rows.Err()
	}
	return page, err
}

// settle looks how far rows may be read.
func (p *Poller) settle(ctx context.Context) error {
	if p.seen != nil && p.c.Now().Sub(p.seen.at) >= p.c.Settle {
		p.upTo, p.seen = p.seen.keys, nil
	}
	if p.seen != nil {
		return nil
	}
	rows, err := p.db.QueryContext(ctx, p.c.highest(p.d))
	if err != nil {
		return err
	}
	defer rows.Close()
	r, err := p.newReader(rows)
	if err != nil {
		return err
	}
	keys, _, err := r.next()
	if err == nil {
		err = rows.Err()
	}
	if err != nil {
		return err
	}
	if keys != nil {
		p.seen = &horizon{keys, p.c.Now()} // the clock after the look, to be on the safe side
	}
	return nil
}

// take moves behind the rows of a page.
func (p *Poller) take(r *reader) (paging.Page, error) {
	var page paging.Page
	var states []string
	last, size := p.after, 0
	for {
		keys, row, err := r.next()
		if err != nil {
			return paging.Page{}, err
		}
		if keys == nil {
			p.idle = true
			break
		}
		if slices.Equal(keys, last) {
			return paging.Page{}, fmt.Errorf("two rows have the same %s; rows could be passed over: add a column to `cursor` that tells them apart, such as the primary key", strings.Join(p.c.Cursor, ", "))
		}
		if len(page.Rows) == p.c.Batch || size >= pageBytes {
			break
		}
		state, _ := json.Marshal(keys) //nolint:errchkjson // strings
		page.Rows, states = append(page.Rows, row), append(states, string(state))
		last, size = keys, size+len(row)
	}
	p.after = last
	page.State = func(i int) string { return states[i] }
	return page, nil
}
