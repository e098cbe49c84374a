package pgchanges

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/tidemill/tidemill/internal/jsontext"
)

// kind says how the text of a value becomes JSON.
type kind uint8

const (
	kindText   kind = iota // a string
	kindBool               // true, false
	kindNumber             // a number, digit by digit; NaN and infinities as strings
	kindTime               // a timestamp: a string, RFC 3339, without a zone if the type has none
	kindBytes              // a string, base64
	kindJSON               // as it is
)

// shape is what has to be known of a type.
type shape struct {
	kind  kind
	base  uint32 // of a domain: the type below it
	elem  uint32 // of an array: the type of its elements
	delim byte   // between them
}

// types are the types of a database by oid. Those that are not in it are text.
type types struct {
	known      map[uint32]shape
	jsonAsText bool
}

func newTypes(jsonAsText bool) *types {
	t := &types{known: map[uint32]shape{}, jsonAsText: jsonAsText}
	for _, oid := range []uint32{pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID, pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID} {
		t.known[oid] = shape{kind: kindNumber}
	}
	t.known[pgtype.BoolOID] = shape{kind: kindBool}
	t.known[pgtype.ByteaOID] = shape{kind: kindBytes}
	t.known[pgtype.TimestampOID] = shape{kind: kindTime}
	t.known[pgtype.TimestamptzOID] = shape{kind: kindTime}
	if !jsonAsText {
		t.known[pgtype.JSONOID] = shape{kind: kindJSON}
		t.known[pgtype.JSONBOID] = shape{kind: kindJSON}
	}
	return t
}

// load reads what arrays and domains the database has.
func (t *types) load(ctx context.Context, c *pgx.Conn) error {
	rows, err := c.Query(ctx, `SELECT oid::int8, CASE WHEN typtype = 'd' THEN typbasetype ELSE 0 END::int8,
		CASE WHEN typtype <> 'd' AND typcategory = 'A' THEN typelem ELSE 0 END::int8, typdelim::text
		FROM pg_type WHERE typtype = 'd' OR typcategory = 'A'`)
	if err != nil {
		return fmt.Errorf("read types: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var oid, base, elem int64
		var delim string
		if err := rows.Scan(&oid, &base, &elem, &delim); err != nil {
			return fmt.Errorf("read types: %w", err)
		}
		s := shape{base: uint32(base), elem: uint32(elem), delim: ','} //nolint:gosec // oids have 32 bits
		if delim != "" {
			s.delim = delim[0]
		}
		t.known[uint32(oid)] = s //nolint:gosec // oids have 32 bits
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read types: %w", err)
	}
	return nil
}

// value appends a value's JSON. It is given as PostgreSQL writes it in a session with
// the parameters of [session].
func (t *types) value(dst []byte, oid uint32, text string) []byte {
	s := t.known[oid]
	for s.base != 0 {
		s = t.known[s.base]
	}
	if s.elem != 0 {
		out, rest, ok := t.array(dst, s, arrayBody(text))
		if !ok || rest != "" {
			return jsontext.AppendString(dst, text)
		}
		return out
	}
	switch s.kind {
	case kindBool:
		if text == "t" {
			return append(dst, "true"...)
		}
		return append(dst, "false"...)
	case kindNumber:
		if last := text[len(text)-1]; last < '0' || last > '9' {
			return jsontext.AppendString(dst, text) // NaN, Infinity
		}
		return append(dst, text...)
	case kindTime:
		if len(text) > 10 && text[10] == ' ' {
			text = text[:10] + "T" + text[11:]
			if zone, ok := strings.CutSuffix(text, "+00"); ok {
				text = zone + "Z"
			}
		}
		return jsontext.AppendString(dst, text)
	case kindBytes:
		b, err := hex.DecodeString(strings.TrimPrefix(text, `\x`))
		if err != nil {
			return jsontext.AppendString(dst, text)
		}
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, b)
		return append(dst, '"')
	case kindJSON:
		return append(dst, oneLine(text)...)
	}
	return jsontext.AppendString(dst, text)
}

// oneLine returns JSON text without line breaks, which json (not jsonb) can have between tokens: a
// row is one line of a message.
func oneLine(text string) string {
	if !strings.ContainsAny(text, "\r\n") {
		return text
	}
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(text)
}

// arrayBody leaves out bounds in front of an array that does not begin at 1: [0:1]={…}.
func arrayBody(text string) string {
	if strings.HasPrefix(text, "[") {
		if _, body, ok := strings.Cut(text, "="); ok {
			return body
		}
	}
	return text
}

// array appends the JSON of an array's text and returns what follows it.
func (t *types) array(dst []byte, s shape, text string) (out []byte, rest string, ok bool) {
	if !strings.HasPrefix(text, "{") {
		return dst, text, false
	}
	text = text[1:]
	dst = append(dst, '[')
	for first := true; ; first = false {
		switch {
		case text == "":
			return dst, text, false
		case text[0] == '}':
			return append(dst, ']'), text[1:], true
		case !first && text[0] != s.delim:
			return dst, text, false
		case !first:
			text = text[1:]
			dst = append(dst, ',')
		}
		switch {
		case text == "":
			return dst, text, false
		case text[0] == '{':
			if dst, text, ok = t.array(dst, s, text); !ok {
				return dst, text, false
			}
		case text[0] == '"':
			var v string
			if v, text, ok = quoted(text); !ok {
				return dst, text, false
			}
			dst = t.value(dst, s.elem, v)
		default:
			end := strings.IndexAny(text, string(s.delim)+"}")
			if end < 0 {
				return dst, text, false
			}
			if v := text[:end]; v == "NULL" {
				dst = append(dst, "null"...)
			} else {
				dst = t.value(dst, s.elem, v)
			}
			text = text[end:]
		}
	}
}

// quoted reads an array element in double quotes.
func quoted(text string) (v, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return b.String(), text[i+1:], true
		case '\\':
			if i++; i == len(text) {
				return "", "", false
			}
			b.WriteByte(text[i])
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", false
}
