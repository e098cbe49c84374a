package secret

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// A type that prints as *** keeps our own code from giving a secret away. Libraries are
// handed the value, and some put it into errors and logs: the URL they could not reach,
// with its user and password, is the usual way. So every text that leaves the process
// passes Scrub: the log (see Handler), what commands print of errors and problems, answers
// over HTTP, the failures and details of workflows (by the failure converter of Temporal's
// client), messages in quarantine, what is told of sinks. It knows every value that New or
// Note was given (from files, commands, variables, URLs and fields with telling names), in
// the forms that they take and in pieces, since URL parsers quote where they stumbled; and
// the places where secrets stand by the look of them.

const (
	shortest = 4 // a shorter value is not looked for: it would be found in every word
	apart    = 8 // a value shorter than this is found only where it stands by itself
)

// public are passwords that everyone knows from manuals, our own included. To look for
// them would make holes in words like tidemill.yaml; where a password stands by the look
// of it they are masked all the same.
var public = map[string]bool{
	"admin": true, "changeme": true, "default": true, "example": true, "false": true, "guest": true, "localhost": true, "minio": true,
	"minioadmin": true, "none": true, "null": true, "password": true, "postgres": true, "root": true, "secret": true, "test": true,
	"tidemill": true, "token": true, "true": true, "user": true,
}

var known struct {
	mu    sync.Mutex
	has   map[string]bool
	texts atomic.Pointer[[]string] // longest first
}

// Note has a value scrubbed from texts from now on, in the forms that it takes in URLs,
// in JSON and in HTTP's basic authentication.
func Note(value string) {
	value = strings.TrimSpace(value)
	if len(value) < shortest || public[strings.ToLower(value)] {
		return
	}
	forms := []string{value, url.QueryEscape(value), url.PathEscape(value), url.UserPassword("", value).String()[1:]}
	if j, err := json.Marshal(value); err == nil {
		forms = append(forms, string(j[1:len(j)-1]))
	}
	if len(value) >= apart {
		forms = append(forms, base64.StdEncoding.EncodeToString([]byte(value)))
	}
	if !strings.Contains(value, "://") {
		// What is wrong with a URL is told of the piece where a library stumbled.
		for _, piece := range strings.FieldsFunc(value, cuts) {
			if len(piece) >= apart && !public[strings.ToLower(piece)] && !strings.HasPrefix(piece, "-----") {
				forms = append(forms, piece)
			}
		}
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	if known.has == nil {
		known.has = map[string]bool{}
	}
	before := len(known.has)
	for _, f := range forms {
		known.has[f] = true
	}
	if len(known.has) == before {
		return
	}
	texts := make([]string, 0, len(known.has))
	for t := range known.has {
		texts = append(texts, t)
	}
	slices.SortFunc(texts, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	known.texts.Store(&texts)
}

// cuts are the characters at which what reads URLs, or logs keys by the line, may cut a value.
func cuts(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`/?#@:%&"'\\`, r) }

// NoteUser is Note for what a URL or a data source name has of its user and password.
func NoteUser(text string) {
	for _, m := range userInfo.FindAllStringSubmatch(text, -1) {
		noteUser(m[2])
	}
	if m := plainDSN.FindStringSubmatch(text); m != nil {
		noteUser(m[1])
	}
	for _, m := range pairs.FindAllStringSubmatch(text, -1) {
		Note(m[3])
	}
}

func noteUser(info string) {
	user, password, ok := strings.Cut(info, ":")
	if !ok {
		password = user // a token
	} else {
		Note(info)
	}
	Note(password)
	if plain, err := url.PathUnescape(password); err == nil {
		Note(plain)
	}
}

var (
	// userInfo is a URL's user and password, up to the last @ before the path ends; they
	// may hold what they should not, such as a slash.
	userInfo = regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]*://)([^\s"'<>\\@]*(?:@[^\s"'<>\\@/]*)*)@`)
	// plainDSN are user and password in a data source name without a scheme, as MySQL's and
	// Snowflake's drivers have them.
	plainDSN = regexp.MustCompile(`^([^\s:@/"']+:[^\s@"']+)@[\w.-]*[(/]`)
	// inDSN is the same in the middle of a text, where only MySQL's form is sure.
	inDSN = regexp.MustCompile(`[^\s:@/"'=]+:[^\s"']+@(tcp|tcp6|unix)\(`)
	// pairs are what name a secret beside its value: k=v of data source names and queries.
	pairs = regexp.MustCompile(`(?i)\b((?:[a-z0-9_.-]*?)(?:password|passwd|pwd|secret|token|api_?key|access_?key|private_?key|sas|sig))(=)([^\s"'&;,)\\]+)`)
	// headers carry credentials in a form of their own.
	headers = regexp.MustCompile(`(?i)\b(bearer|basic|apikey)(\s+)([A-Za-z0-9+/_.~=-]{8,})`)
)

// Scrub returns a text without secrets: Mask stands in their places.
func Scrub(text string) string {
	if texts := known.texts.Load(); texts != nil {
		for _, t := range *texts {
			if strings.Contains(text, t) {
				text = replace(text, t)
			}
		}
	}
	if strings.Contains(text, "@") {
		text = userInfo.ReplaceAllString(text, "${1}"+Mask+"@")
		text = inDSN.ReplaceAllString(text, Mask+"@${1}(")
	}
	if strings.Contains(text, "=") {
		text = pairs.ReplaceAllString(text, "${1}${2}"+Mask)
	}
	return headers.ReplaceAllStringFunc(text, func(m string) string {
		p := headers.FindStringSubmatch(m)
		if !strings.ContainsAny(p[3], "0123456789+/_=") && p[3] == strings.ToLower(p[3]) {
			return m // "basic authentication"
		}
		return p[1] + p[2] + Mask
	})
}

// replace masks a value; a short one only where it is no part of a word.
func replace(text, value string) string {
	if len(value) >= apart {
		return strings.ReplaceAll(text, value, Mask)
	}
	var b strings.Builder
	for {
		i := strings.Index(text, value)
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		end := i + len(value)
		before, _ := utf8.DecodeLastRuneInString(text[:i])
		after, _ := utf8.DecodeRuneInString(text[end:])
		b.WriteString(text[:i])
		if word(before) || word(after) {
			b.WriteString(value)
		} else {
			b.WriteString(Mask)
		}
		text = text[end:]
	}
}

func word(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// ScrubError returns an error whose text, and whose causes' texts, are scrubbed; errors.Is
// and errors.As see the error as it was. A nil error stays nil.
func ScrubError(err error) error {
	if err == nil || Scrub(err.Error()) == err.Error() {
		return err
	}
	return scrubbed{err}
}

type scrubbed struct{ err error }

func (s scrubbed) Error() string   { return Scrub(s.err.Error()) }
func (s scrubbed) Is(t error) bool { return errors.Is(s.err, t) }
func (s scrubbed) As(t any) bool   { return errors.As(s.err, t) }

// Handler returns a handler that scrubs what it hands on.
func Handler(h slog.Handler) slog.Handler { return handler{h} }

type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, Scrub(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(scrubAttr(a))
		return true
	})
	return h.Handler.Handle(ctx, out)
}

func (h handler) WithAttrs(as []slog.Attr) slog.Handler {
	out := make([]slog.Attr, len(as))
	for i, a := range as {
		out[i] = scrubAttr(a)
	}
	return handler{h.Handler.WithAttrs(out)}
}

func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }

func scrubAttr(a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(Scrub(v.String()))
	case slog.KindGroup:
		group := v.Group()
		out := make([]slog.Attr, len(group))
		for i, g := range group {
			out[i] = scrubAttr(g)
		}
		a.Value = slog.GroupValue(out...)
	case slog.KindAny:
		a.Value = scrubAny(v)
	}
	return a
}

// scrubAny leaves a value as it is when there is nothing in it to hide, so that lists
// stay lists.
func scrubAny(v slog.Value) slog.Value {
	text := v.String()
	if err, ok := v.Any().(error); ok {
		text = err.Error()
	}
	data, err := json.Marshal(v.Any())
	if clean := Scrub(text); clean != text {
		return slog.StringValue(clean)
	}
	if err == nil && Scrub(string(data)) != string(data) {
		return slog.StringValue(Scrub(text))
	}
	return v
}

// Writer returns a writer that scrubs what it hands on. What is written at once should be
// whole lines, as package log does.
func Writer(w io.Writer) io.Writer { return writer{w} }

type writer struct{ w io.Writer }

func (w writer) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.w, Scrub(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
