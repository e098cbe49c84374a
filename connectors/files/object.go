package files

import (
	"context"
	"fmt"
	"io"
	"iter"
	"time"
)

// Object is a file or an S3 object as a listing shows it.
type Object struct {
	Name    string // as messages and partitions call it: the path, or s3://bucket/key
	Size    int64  // bytes
	ModTime time.Time
	Version string // changes when the content does
	Fixed   bool   // what has this version never changes (S3)
}

// Content is the bytes of one object in one version. What another version would
// give is [ErrReplaced].
type Content interface {
	io.ReaderAt
	io.Closer
}

// A Place is where some of the objects are.
type Place interface {
	// List yields the objects there are, in no certain order. After an error, which
	// comes with a zero Object, it ends. That there is nothing is no error.
	List(ctx context.Context) iter.Seq2[Object, error]
	// Stat looks at an object again; fs.ErrNotExist when it is gone.
	Stat(ctx context.Context, name string) (Object, error)
	// Open gives access to an object's content. The context is that of all reads.
	Open(ctx context.Context, o Object) (Content, error)
	String() string
}

// Block is some rows of one object.
type Block struct {
	Object    string
	Partition string // Object with a hash
	First     int64  // number of the first row
	Rows      int64  // numbers the block covers, at least 1
	Data      []byte // JSON, one row a line; the caller's
	Bad       *Bad   // instead of rows: what could not be read
	End       bool   // the partition has no rows after these, now or later
}

// Bad says why a part of an object gives no rows. Data has its bytes as far as
// they say anything.
type Bad struct {
	Rule    string // such as "csv_record"
	Message string
}

// Error implements error.
func (b *Bad) Error() string { return b.Message }

// What the rules of bad parts are called in the quarantine table.
const (
	RuleUnreadable = "unreadable" // the rest of the object, or a part of it
	RuleCSV        = "csv_record" // one record
	RuleTooLong    = "row_too_long"
)

// damage is an error of the content itself: reading it again gives it again.
type damage struct{ err error }

func (d damage) Error() string { return d.err.Error() }
func (d damage) Unwrap() error { return d.err }

func damaged(format string, args ...any) error { return damage{fmt.Errorf(format, args...)} }
