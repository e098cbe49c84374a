package httppoll

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/connectors/paging"
)

// Config of a [Poller].
type Config struct {
	URL     string
	Headers map[string]string
	Rows    string // where the array of rows stands: "data.items"; "" is the response itself
	// Next returns the next page's cursor as a response names it, "" when it names none.
	// Nil with FollowLink false: every response is new rows.
	Next       func(body []byte, header http.Header) (string, error)
	FollowLink bool   // the next page is that of the Link header with rel="next"
	Param      string // query parameter that has the cursor; "": the cursor is an address
	Start      string // first cursor, with Param

	Interval time.Duration                                // between looks for new rows
	Timeout  time.Duration                                // of a request
	MaxBody  int64                                        // of a response, unpacked
	Limit    func(context.Context) (time.Duration, error) // how long to wait before a request; nil: not at all
	Client   *http.Client                                 // nil: one of its own
	Now      func() time.Time                             // nil: time.Now
}

// Poller implements [paging.Pager].
type Poller struct {
	c    Config
	base *url.URL
	at   state
	idle bool // the last response had nothing new
}

// state is from where to go on.
type state struct {
	Cursor string `json:"c,omitempty"`
	Rows   int    `json:"n,omitempty"` // of the cursor's page that are taken
}

// New returns a poller at the beginning, or what is wrong with its configuration.
func New(c Config) (*Poller, error) {
	base, err := url.Parse(c.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, errors.New("url: must be an http or https address, such as https://api.example.com/orders")
	}
	var errs []error
	if c.Next != nil && c.FollowLink {
		errs = append(errs, errors.New("follow_link: is another way to name the next page than `next`; remove one of them"))
	}
	if c.FollowLink && c.Param != "" {
		errs = append(errs, errors.New("cursor_param: has no use with follow_link, where the header has the next page's whole address; remove it"))
	}
	if c.Start != "" && c.Param == "" {
		errs = append(errs, errors.New("start: needs cursor_param, the query parameter that it goes into"))
	}
	if c.Param != "" && c.Next == nil {
		errs = append(errs, errors.New("cursor_param: needs `next`, a mapping from a response to the cursor behind it"))
	}
	for field, d := range map[string]time.Duration{"interval": c.Interval, "timeout": c.Timeout} {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("%s: must be more than 0", field))
		}
	}
	if c.MaxBody <= 0 {
		errs = append(errs, errors.New("max_response_bytes: must be more than 0"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Client == nil {
		c.Client = &http.Client{}
	}
	client := *c.Client
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme || len(via) > 10 {
			return http.ErrUseLastResponse
		}
		return nil
	}
	c.Client = &client
	return &Poller{c: c, base: base, at: state{Cursor: c.Start}}, nil
}

// Partition names the source: host and path, nothing that could be secret.
func (p *Poller) Partition() string { return p.base.Host + p.base.Path }

// Resume implements [paging.Pager].
func (p *Poller) Resume(text string) error {
	p.idle = false
	p.at = state{Cursor: p.c.Start}
	if text == "" {
		return nil
	}
	p.at = state{}
	if err := json.Unmarshal([]byte(text), &p.at); err != nil {
		return fmt.Errorf("the cursor in the table's log is not one of http_poll: %w", err)
	}
	return nil
}

// Close implements [paging.Pager].
func (p *Poller) Close() error {
	p.c.Client.CloseIdleConnections()
	return nil
}

// Repeats says that every response is new rows, so that there is nothing to resume at.
func (p *Poller) Repeats() bool { return p.c.Next == nil && !p.c.FollowLink }

// Next implements [paging.Pager].
func (p *Poller) Next(ctx context.Context) (paging.Page, error) {
	for {
		if p.idle {
			if err := paging.Sleep(ctx, p.c.Interval); err != nil {
				return paging.Page{}, err
			}
			p.idle = false
		}
		res, err := p.request(ctx)
		if err != nil {
			return paging.Page{}, err
		}
		page, err := p.take(res)
		if err != nil || len(page.Rows) > 0 {
			return page, err
		}
	}
}

// take moves behind the rows of a response.
func (p *Poller) take(res response) (page paging.Page, err error) {
	rows, err := rowsAt(res.body, p.c.Rows)
	if err != nil {
		return page, &paging.Unavailable{Err: fmt.Errorf("response of %s: %w", p.Partition(), err)}
	}
	if p.Repeats() {
		p.idle = true
		return paging.Page{Rows: rows, State: func(int) string { return "" }}, nil
	}
	next, err := p.next(res)
	if err != nil {
		return page, err
	}
	from := p.at
	if from.Rows > len(rows) {
		return page, &paging.Unavailable{Err: fmt.Errorf("response of %s: the page has %d rows, and had %d before; rows must stay on the page that they are on", p.Partition(), len(rows), from.Rows)}
	}
	fresh := rows[from.Rows:]
	end := state{Cursor: from.Cursor, Rows: len(rows)}
	if next != "" && next != from.Cursor {
		end = state{Cursor: next}
	} else {
		p.idle = true
	}
	p.at = end
	return paging.Page{Rows: fresh, State: func(i int) string {
		if i == len(fresh)-1 {
			return end.text()
		}
		return state{Cursor: from.Cursor, Rows: from.Rows + i + 1}.text()
	}}, nil
}

func (s state) text() string {
	out, _ := json.Marshal(s) //nolint:errchkjson // a string and numbers
	return string(out)
}

// maxCursor leaves room for the rest of the state in what a log keeps.
const maxCursor = 3 << 10

func (p *Poller) next(res response) (string, error) {
	var next string
	if p.c.FollowLink {
		next = linkNext(res.header.Values("Link"))
	} else {
		var err error
		if next, err = p.c.Next(res.body, res.header); err != nil {
			return "", &paging.Unavailable{Err: fmt.Errorf("next: %w", err)}
		}
	}
	if len(next) > maxCursor {
		return "", &paging.Unavailable{Err: fmt.Errorf("next: the cursor has %d bytes, %d are allowed", len(next), maxCursor)}
	}
	if p.c.Param == "" && next != "" {
		u, err := res.url.Parse(next)
		if err != nil {
			return "", &paging.Unavailable{Err: errors.New("next: what the response names is no address; if it is a token, say cursor_param")}
		}
		if u.Host != p.base.Host || u.Scheme != p.base.Scheme {
			return "", &paging.Unavailable{Err: fmt.Errorf("next: the response names a page on %s; headers are sent to %s only", u.Host, p.base.Host)}
		}
		next = u.String()
	}
	return next, nil
}

func (p *Poller) address() (*url.URL, error) {
	if p.c.Param == "" && p.at.Cursor != "" {
		u, err := p.base.Parse(p.at.Cursor)
		if err != nil || u.Host != p.base.Host || u.Scheme != p.base.Scheme {
			return nil, fmt.Errorf("the cursor in the table's log is no address on %s; rename the connector to begin anew", p.base.Host)
		}
		return u, nil
	}
	u := *p.base
	if p.at.Cursor != "" {
		q := u.Query()
		q.Set(p.c.Param, p.at.Cursor)
		u.RawQuery = q.Encode()
	}
	return &u, nil
}

type response struct {
	body   []byte
	header http.Header
	url    *url.URL
}

// request asks for the page of the cursor.
func (p *Poller) request(ctx context.Context) (res response, err error) {
	if res.url, err = p.address(); err != nil {
		return res, err
	}
	if err := p.pace(ctx); err != nil {
		return res, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.c.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, res.url.String(), nil)
	if err != nil {
		return res, errors.New("url: no request can be made of it; correct it")
	}
	r.Header.Set("Accept", "application/json")
	for k, v := range p.c.Headers {
		r.Header.Set(k, v)
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	answer, err := p.c.Client.Do(r)
	if err != nil {
		return res, p.unavailable(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return res, p.refused(answer)
	}
	res.header = answer.Header
	if res.body, err = io.ReadAll(io.LimitReader(answer.Body, p.c.MaxBody+1)); err != nil {
		return res, p.unavailable(err)
	}
	if int64(len(res.body)) > p.c.MaxBody {
		return res, &paging.Unavailable{Err: fmt.Errorf("response of %s: more than %d bytes; ask for smaller pages, or raise max_response_bytes", p.Partition(), p.c.MaxBody)}
	}
	return res, nil
}

func (p *Poller) pace(ctx context.Context) error {
	for p.c.Limit != nil {
		wait, err := p.c.Limit(ctx)
		if err != nil {
			return &paging.Unavailable{Err: fmt.Errorf("rate limit: %w", err)}
		}
		if wait <= 0 {
			break
		}
		if err := paging.Sleep(ctx, wait); err != nil {
			return err
		}
	}
	return nil
}

// unavailable leaves the address out of a client's error: its query may hold a key.
func (p *Poller) unavailable(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return &paging.Unavailable{Err: fmt.Errorf("request to %s: %w", p.Partition(), err)}
}

// maxRetryAfter is how long a server may make us wait.
const maxRetryAfter = time.Hour

func (p *Poller) refused(answer *http.Response) error {
	_, _ = io.CopyN(io.Discard, answer.Body, 64<<10) // so that the connection can be kept
	advice := ""
	switch s := answer.StatusCode; {
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		advice = "; check the key in headers"
	case s == http.StatusNotFound || s == http.StatusBadRequest:
		advice = "; check url and cursor_param"
	case s >= 300 && s < 400:
		advice = "; it sends us to another host, where headers are not sent: put that address into url"
	}
	u := &paging.Unavailable{Err: fmt.Errorf("request to %s: %s%s", p.Partition(), answer.Status, advice)}
	if v := answer.Header.Get("Retry-After"); v != "" {
		if s, err := strconv.Atoi(v); err == nil && s > 0 {
			u.After = time.Duration(min(s, int(maxRetryAfter/time.Second))) * time.Second
		} else if at, err := http.ParseTime(v); err == nil {
			u.After = min(max(0, at.Sub(p.c.Now())), maxRetryAfter)
		}
	}
	return u
}

// linkNext returns the address of rel="next" in Link headers, "" without one.
func linkNext(headers []string) string {
	for _, h := range headers {
		for h != "" {
			_, rest, ok := strings.Cut(h, "<")
			if !ok {
				break
			}
			target, rest, ok := strings.Cut(rest, ">")
			if !ok {
				break
			}
			params, after, _ := strings.Cut(rest, ",")
			h = after
			for param := range strings.SplitSeq(params, ";") {
				name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
				if !strings.EqualFold(strings.TrimSpace(name), "rel") {
					continue
				}
				for rel := range strings.FieldsSeq(strings.Trim(strings.TrimSpace(value), `"`)) {
					if strings.EqualFold(rel, "next") {
						return target
					}
				}
			}
		}
	}
	return ""
}
