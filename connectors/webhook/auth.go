package webhook

import (
	"crypto/hmac"
	"crypto/sha1" // as a part of HMAC it is sound, and GitHub's older webhooks have it
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/internal/secret"
)

// Auth says who may send. With both tokens and HMAC, both are asked for.
type Auth struct {
	Tokens []secret.String // any of them; the sender has one in Header
	Header string          // "" or "Authorization": with "Bearer " before the token
	HMAC   *HMAC
}

// HMAC is a signature over the body as it was sent.
type HMAC struct {
	Secrets   []secret.String // any of them
	Header    string          // where the signature stands
	Algorithm string          // sha1, sha256 or sha512
	Encoding  string          // hex or base64
	Prefix    string          // before the signature; the header may list several values, separated by commas
	// Signed is what the signature is over: text with {body} and maybe {timestamp} in it.
	Signed          string
	TimestampHeader string // where {timestamp} stands
	TimestampPrefix string
	Tolerance       time.Duration // how far the timestamp, in Unix seconds, may be off
}

var algorithms = map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}

// FieldError is a field of the configuration that cannot be as it is.
type FieldError struct{ Field, Message string }

func (e FieldError) Error() string { return e.Field + ": " + e.Message }

func (a Auth) check() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, FieldError{field, fmt.Sprintf(format, args...)})
	}
	empty := func(field string, list []secret.String) {
		for i, s := range list {
			if s.Empty() {
				bad(fmt.Sprintf("%s[%d]", field, i), "is empty, so that everyone would know it; set the variable that it comes from")
			}
		}
	}
	empty("auth.tokens", a.Tokens)
	if h := a.HMAC; h != nil {
		empty("auth.hmac.secrets", h.Secrets)
		if len(h.Secrets) == 0 {
			bad("auth.hmac.secrets", "missing; name at least one, or remove auth.hmac")
		}
		if h.Header == "" {
			bad("auth.hmac.header", "missing; name the header that has the signature, such as X-Hub-Signature-256")
		}
		if algorithms[h.Algorithm] == nil {
			bad("auth.hmac.algorithm", "%q is not known; use sha256, sha512 or sha1", h.Algorithm)
		}
		if h.Encoding != "hex" && h.Encoding != "base64" {
			bad("auth.hmac.encoding", "%q is not known; use hex or base64", h.Encoding)
		}
		if strings.Count(h.Signed, "{body}") != 1 {
			bad("auth.hmac.signed", "%q must have {body} in it once; without the body a signature says nothing about the rows", h.Signed)
		}
		if strings.Contains(h.Signed, "{timestamp}") != (h.TimestampHeader != "") {
			bad("auth.hmac.signed", "{timestamp} in it and auth.hmac.timestamp_header go together; a timestamp that is not signed protects from nothing")
		}
	}
	return errors.Join(errs...)
}

// bearer is what precedes a token in the Authorization header.
const bearer = "Bearer "

// admit checks the token of a request.
func (a Auth) admit(r *http.Request) *refusal {
	if len(a.Tokens) == 0 {
		return nil
	}
	header, got := a.Header, ""
	if header == "" || strings.EqualFold(header, "Authorization") {
		v := r.Header.Get("Authorization")
		if len(v) > len(bearer) && strings.EqualFold(v[:len(bearer)], bearer) {
			got = v[len(bearer):]
		}
		header = "Authorization: " + strings.TrimSpace(bearer)
	} else {
		got = r.Header.Get(header)
	}
	ok := 0
	for _, t := range a.Tokens {
		// Hashes, so that not even the length shows in the time that it takes.
		want, have := sha256.Sum256([]byte(t.Reveal())), sha256.Sum256([]byte(got))
		ok |= subtle.ConstantTimeCompare(want[:], have[:])
	}
	if ok == 1 {
		return nil
	}
	if got == "" {
		return refuse(http.StatusUnauthorized, "no token: send it in the header %q", header)
	}
	return refuse(http.StatusUnauthorized, "the token in the header %q is not one of those expected", header)
}

// carriesSecret says whether a header must not become metadata.
func (a Auth) carriesSecret(header string) bool {
	switch {
	case strings.EqualFold(header, "Authorization"), strings.EqualFold(header, "Cookie"), strings.EqualFold(header, "Proxy-Authorization"):
		return true
	case a.Header != "" && strings.EqualFold(header, a.Header):
		return true
	}
	return a.HMAC != nil && strings.EqualFold(header, a.HMAC.Header)
}

// signature is an HMAC being computed while a body is read. A nil one takes everything.
type signature struct {
	h      *HMAC
	macs   []hash.Hash
	after  string // what is signed behind the body
	claims [][]byte
}

// begin reads the headers of a signed request.
func (h *HMAC) begin(r *http.Request, now time.Time) (*signature, *refusal) {
	if h == nil {
		return nil, nil
	}
	s := &signature{h: h}
	for _, v := range listed(r.Header.Get(h.Header), h.Prefix) {
		if mac, err := h.decode(v); err == nil {
			s.claims = append(s.claims, mac)
		}
	}
	if len(s.claims) == 0 {
		return nil, refuse(http.StatusUnauthorized, "no signature: the header %s must have the HMAC-%s of the body, in %s, after %q", h.Header, strings.ToUpper(h.Algorithm), h.Encoding, h.Prefix)
	}
	before, after, _ := strings.Cut(h.Signed, "{body}")
	if h.TimestampHeader != "" {
		at := ""
		if list := listed(r.Header.Get(h.TimestampHeader), h.TimestampPrefix); len(list) > 0 {
			at = list[0]
		}
		sec, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return nil, refuse(http.StatusUnauthorized, "no timestamp: the header %s must have Unix seconds after %q", h.TimestampHeader, h.TimestampPrefix)
		}
		if off := now.Sub(time.Unix(sec, 0)).Abs(); off > h.Tolerance {
			return nil, refuse(http.StatusUnauthorized, "the timestamp is %s off, more than the %s allowed; correct the sender's clock, or sign anew", off.Round(time.Second), h.Tolerance)
		}
		before, after = strings.ReplaceAll(before, "{timestamp}", at), strings.ReplaceAll(after, "{timestamp}", at)
	}
	s.after = after
	for _, key := range h.Secrets {
		mac := hmac.New(algorithms[h.Algorithm], []byte(key.Reveal()))
		_, _ = mac.Write([]byte(before))
		s.macs = append(s.macs, mac)
	}
	return s, nil
}

func (h *HMAC) decode(v string) ([]byte, error) {
	if h.Encoding == "base64" {
		return base64.StdEncoding.DecodeString(v)
	}
	return hex.DecodeString(v)
}

// listed returns the values of a header that begin with a prefix, without it.
func listed(header, prefix string) (out []string) {
	for v := range strings.SplitSeq(header, ",") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(v), prefix); ok && rest != "" {
			out = append(out, rest)
		}
	}
	return out
}

// Write takes bytes of the body.
func (s *signature) Write(p []byte) (int, error) {
	for _, m := range s.macs {
		_, _ = m.Write(p)
	}
	return len(p), nil
}

// verify says whether the body that was written is the one that was signed.
func (s *signature) verify() *refusal {
	if s == nil {
		return nil
	}
	ok := false
	for _, m := range s.macs {
		_, _ = m.Write([]byte(s.after))
		want := m.Sum(nil)
		for _, c := range s.claims {
			ok = hmac.Equal(want, c) || ok
		}
	}
	if ok {
		return nil
	}
	return refuse(http.StatusUnauthorized, "the signature in %s is not that of this body; sign the bytes as they are sent, with the secret that is configured here", s.h.Header)
}
