package webhook

import (
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/tidemill/tidemill/connectors/csvjson"
)

// Formats of a body.
const (
	FormatAuto   = "auto"   // by the Content-Type
	FormatJSON   = "json"   // an object, an array of objects, or NDJSON
	FormatNDJSON = "ndjson" // an object a line
	FormatCSV    = "csv"    // with a header
)

// errTooLarge ends a body that is longer than allowed; errFull one that there is no memory for.
var (
	errTooLarge = errors.New("body too large")
	errFull     = errors.New("no memory for the body")
)

// maxZstdWindow is what a decoder of ours sets aside at most for one request.
const maxZstdWindow = 8 << 20

// body is a request's rows, as they will be handed over.
type body struct {
	data  []byte
	held  int64 // of the server's memory
	lines bool  // each line is a row
}

// readBody reads a request's rows. What it holds is the caller's to give back,
// also with a refusal.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (b body, no *refusal) {
	format, no := s.format(r.Header.Get("Content-Type"))
	if no != nil {
		return b, no
	}
	if r.ContentLength > s.c.MaxBody {
		return b, s.tooLarge(r.ContentLength)
	}
	sig, no := s.c.Auth.HMAC.begin(r, s.c.Now())
	if no != nil {
		return b, no
	}
	raw := &limited{r: r.Body, left: s.c.MaxBody, deadline: deadline(w, s.c.Timeout)}
	defer raw.deadline(false)
	var in io.Reader = raw
	if sig != nil {
		in = io.TeeReader(raw, sig)
	}
	signed := in
	in, closeBody, no := decompress(in, r.Header.Get("Content-Encoding"))
	if no != nil {
		return b, no
	}
	defer closeBody()
	buf := &buffer{s: s, limit: s.c.MaxBody}
	defer func() { b.held = buf.held }()
	if in == signed && r.ContentLength > 0 && format != FormatCSV {
		// One byte more, so that the end is seen without growing.
		if err := buf.grow(int(r.ContentLength) + 1); err != nil {
			return b, s.refusalOf(err)
		}
	}
	var err error
	if format == FormatCSV {
		err = csvjson.Convert(buf, in, csvjson.Options{Delimiter: s.c.Delimiter, Kind: s.kinds(r)})
	} else {
		_, err = buf.ReadFrom(in)
	}
	if err == nil && signed != in {
		_, err = io.Copy(io.Discard, signed) // what a decoder left unread is signed as well
	}
	if err != nil {
		return b, s.refusalOf(err)
	}
	if no := sig.verify(); no != nil {
		return b, no
	}
	b.data, b.lines = buf.b, format == FormatCSV || format == FormatNDJSON
	return b, nil
}

func (s *Server) kinds(r *http.Request) func(string) csvjson.Kind {
	if s.c.Kinds == nil {
		return nil
	}
	return s.c.Kinds(r.Context())
}

func (s *Server) format(contentType string) (string, *refusal) {
	media, params, err := mime.ParseMediaType(contentType)
	if contentType != "" && err != nil {
		return "", refuse(http.StatusUnsupportedMediaType, "the Content-Type is malformed; send application/json, application/x-ndjson or text/csv")
	}
	if cs := params["charset"]; cs != "" && !strings.EqualFold(cs, "utf-8") && !strings.EqualFold(cs, "us-ascii") {
		return "", refuse(http.StatusUnsupportedMediaType, "the charset must be utf-8; convert the body before it is sent")
	}
	if strings.HasPrefix(media, "multipart/") {
		return "", refuse(http.StatusUnsupportedMediaType, "rows are not taken from multipart bodies; send them as the body itself (curl: --data-binary @file instead of -F)")
	}
	if s.c.Format != "" && s.c.Format != FormatAuto {
		return s.c.Format, nil
	}
	switch media {
	case "text/csv", "application/csv":
		return FormatCSV, nil
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines", "application/jsonlines":
		return FormatNDJSON, nil
	}
	return FormatJSON, nil
}

// decompress undoes the content encoding. Without one it returns r itself.
func decompress(r io.Reader, encoding string) (io.Reader, func(), *refusal) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return r, func() {}, nil
	case "gzip", "x-gzip":
		return &gzipped{r: r}, func() {}, nil
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, nil, refuse(http.StatusBadRequest, "the body is not zstd, as the Content-Encoding says")
		}
		return z, z.Close, nil
	}
	return nil, nil, refuse(http.StatusUnsupportedMediaType, "the Content-Encoding is not known; use gzip, zstd or none")
}

// gzipped reads the header of a gzip stream when it is read from.
type gzipped struct {
	r io.Reader
	z *gzip.Reader
}

func (g *gzipped) Read(p []byte) (n int, err error) {
	if g.z == nil {
		if g.z, err = gzip.NewReader(g.r); err != nil {
			g.z = nil
			if errors.Is(err, io.EOF) {
				return 0, io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	return g.z.Read(p)
}

func (s *Server) tooLarge(length int64) *refusal {
	what := "the body, or what it unpacks to,"
	if length > 0 {
		what = fmt.Sprintf("the body of %d bytes", length)
	}
	return refuse(http.StatusRequestEntityTooLarge, "%s is larger than the %d bytes allowed; send it in parts, or raise max_body_bytes of this connector", what, s.c.MaxBody)
}

// refusalOf says what reading a body failed with.
func (s *Server) refusalOf(err error) *refusal {
	var corrupt flate.CorruptInputError
	malformed, isCSV := errors.AsType[*csvjson.Error](err)
	switch {
	case errors.Is(err, errTooLarge):
		return s.tooLarge(0)
	case errors.Is(err, errFull):
		return busy("too much is on its way to the table already")
	case isCSV:
		return refuse(http.StatusBadRequest, "the CSV is malformed: %v", malformed)
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt), strings.HasPrefix(err.Error(), "flate:"):
		return refuse(http.StatusBadRequest, "the body is not the gzip stream that its Content-Encoding says")
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return refuse(http.StatusBadRequest, "the zstd stream needs a window of more than %d MiB; compress with a lower level", maxZstdWindow>>20)
	case errors.Is(err, zstd.ErrMagicMismatch), errors.Is(err, zstd.ErrReservedBlockType), errors.Is(err, zstd.ErrCRCMismatch):
		return refuse(http.StatusBadRequest, "the body is not the zstd stream that its Content-Encoding says")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(http.StatusRequestTimeout, "nothing of the body came for %s; send it again", s.c.Timeout)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return refuse(http.StatusBadRequest, "the body ends too early; send it again, whole")
	}
	return refuse(http.StatusBadRequest, "the body cannot be read; check its Content-Encoding, and send it again")
}

// deadline returns a function that gives the client time for its next bytes,
// or, without more, takes the limit away.
func deadline(w http.ResponseWriter, d time.Duration) func(more bool) {
	rc := http.NewResponseController(w)
	return func(more bool) {
		at := time.Time{}
		if more {
			at = time.Now().Add(d)
		}
		_ = rc.SetReadDeadline(at) // a test's recorder has none
	}
}

// limited reads at most left bytes; one more is an error.
type limited struct {
	r        io.Reader
	left     int64
	deadline func(more bool)
}

func (l *limited) Read(p []byte) (int, error) {
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	l.deadline(true)
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return n, errTooLarge
	}
	return n, err
}

// buffer collects a body within its limit and the server's memory.
type buffer struct {
	s     *Server
	b     []byte
	held  int64
	limit int64
}

const firstBuffer = 4 << 10

// grow makes room for n bytes more.
func (b *buffer) grow(n int) error {
	if cap(b.b)-len(b.b) >= n {
		return nil
	}
	size := max(len(b.b)+n, 2*cap(b.b), firstBuffer)
	size = max(len(b.b)+n, min(size, int(b.limit)+1))
	if more := int64(size) - b.held; more > 0 {
		if !b.s.memory.TryAcquire(more) {
			return errFull
		}
		b.held = int64(size)
	}
	grown := make([]byte, len(b.b), size)
	copy(grown, b.b)
	b.b = grown
	return nil
}

func (b *buffer) Write(p []byte) (int, error) {
	if int64(len(b.b)+len(p)) > b.limit {
		return 0, errTooLarge
	}
	if err := b.grow(len(p)); err != nil {
		return 0, err
	}
	b.b = append(b.b, p...)
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom.
func (b *buffer) ReadFrom(r io.Reader) (int64, error) {
	for {
		if len(b.b) == cap(b.b) {
			if err := b.grow(1); err != nil {
				return 0, err
			}
		}
		n, err := r.Read(b.b[len(b.b):cap(b.b)])
		b.b = b.b[:len(b.b)+n]
		switch {
		case int64(len(b.b)) > b.limit:
			return 0, errTooLarge
		case errors.Is(err, io.EOF):
			return int64(len(b.b)), nil
		case err != nil:
			return 0, err
		}
	}
}
