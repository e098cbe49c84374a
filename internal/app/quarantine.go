package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
)

// QuarantineList says which rows of a quarantine table are listed.
type QuarantineList struct {
	Table  string // the contract's
	Where  string // SQL condition over the quarantine table's columns
	Limit  int    // newest rows at most
	All    bool   // rows that were replayed, too
	Counts bool   // rows by class and rule instead of rows
	JSON   bool
}

// rawText is a row's bytes as text; what is no text is escaped.
const rawText = "coalesce(TRY(decode(raw)), raw::VARCHAR)"

// ListQuarantine writes rows of a quarantine table, the newest first.
func ListQuarantine(ctx context.Context, dir string, o QuarantineList, log *slog.Logger, w io.Writer) error {
	if err := contractOnly(o.Table); err != nil {
		return err
	}
	conditions := []string{"TRUE"}
	if !o.All {
		conditions = append(conditions, "replay IS NULL")
	}
	if o.Where != "" {
		conditions = append(conditions, "("+o.Where+"\n)")
	}
	from := fmt.Sprintf("FROM %s_quarantine WHERE %s", o.Table, strings.Join(conditions, " AND "))
	sql := "SELECT class, rule, count(*) AS \"rows\", min(quarantined_at) AS first, max(quarantined_at) AS last, any_value(message) AS example " + from + " GROUP BY ALL ORDER BY \"rows\" DESC, class, rule"
	if !o.Counts {
		replay := ""
		if o.All {
			replay = ", replay IS NOT NULL AS replayed"
		}
		sql = "SELECT quarantined_at, class, rule, _source || ':' || _offset AS position, message" + replay + ", " + rawText + " AS raw " + from +
			" ORDER BY quarantined_at DESC, _source, _offset LIMIT " + strconv.Itoa(o.Limit)
	}
	format := "table"
	if o.JSON {
		format = "json"
	}
	return SQL(ctx, dir, sql, SQLOptions{Format: format}, log, w)
}

// ShowQuarantine writes all there is of the rows at one position, as `list` prints it.
func ShowQuarantine(ctx context.Context, dir, table, at string, asJSON bool, log *slog.Logger, w io.Writer) error {
	if err := contractOnly(table); err != nil {
		return err
	}
	source, offset, err := splitPosition(at)
	if err != nil {
		return err
	}
	sql := fmt.Sprintf("SELECT * REPLACE (%s AS raw) FROM %s_quarantine WHERE _source = '%s' AND _offset = %d ORDER BY quarantined_at",
		rawText, table, strings.ReplaceAll(source, "'", "''"), offset)
	var out bytes.Buffer
	if err := SQL(ctx, dir, sql, SQLOptions{Format: "json"}, log, &out); err != nil {
		return err
	}
	if out.Len() == 0 {
		return fmt.Errorf("%s_quarantine has no row at %s; `tidemill quarantine list %s` prints positions", table, at, table)
	}
	if asJSON {
		_, err := out.WriteTo(w)
		return err
	}
	return writeFields(&out, w)
}

// writeFields writes rows that are JSON objects field by field, in their order.
func writeFields(in io.Reader, w io.Writer) error {
	dec := json.NewDecoder(in)
	dec.UseNumber()
	for first := true; ; first = false {
		switch _, err := dec.Token(); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if !first {
			fmt.Fprintln(w)
		}
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return err
			}
			value, err := dec.Token()
			if err != nil {
				return err
			}
			if value != nil {
				fmt.Fprintf(w, "%-15s  %v\n", name, value)
			}
		}
		if _, err := dec.Token(); err != nil {
			return err
		}
	}
}

// splitPosition takes "source:offset" apart; sources may have colons of their own.
func splitPosition(at string) (source string, offset int64, err error) {
	i := strings.LastIndexByte(at, ':')
	if i >= 0 {
		offset, err = strconv.ParseInt(at[i+1:], 10, 64)
	}
	if i < 1 || err != nil {
		return "", 0, fmt.Errorf("position %q: want SOURCE:OFFSET, as `tidemill quarantine list` prints it", at)
	}
	return at[:i], offset, nil
}

// contractOnly refuses what is no contract's name, which becomes part of a statement.
func contractOnly(table string) error {
	for _, r := range table {
		if r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return fmt.Errorf("table %q: want the contract's name, such as orders", table)
		}
	}
	if table == "" {
		return errors.New("the contract's name is missing")
	}
	return nil
}
