package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"

	"github.com/minio/minio-go/v7"

	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Error is an answer of the store that is none of objstore's cases.
type Error struct {
	Status  int    // HTTP status
	Code    string // such as "AccessDenied"
	Message string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s (HTTP %d)", e.Code, e.Message, e.Status)
}

// errTimeout is the cause of an attempt's own deadline, as against the caller's.
var errTimeout = errors.New("no answer from the store in time")

// mapError turns what minio-go returned for one attempt into objstore's errors. ctx is
// the caller's context, attempt the one of the attempt.
func mapError(ctx, attempt context.Context, op, key string, conditional bool, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, key, classify(ctx, attempt, conditional, err))
}

func classify(ctx, attempt context.Context, conditional bool, err error) error {
	var resp minio.ErrorResponse
	if errors.As(err, &resp) && resp.StatusCode != 0 {
		return classifyResponse(resp, conditional)
	}
	if cerr := ctx.Err(); cerr != nil {
		return cerr
	}
	if errors.Is(context.Cause(attempt), errTimeout) {
		return objstore.Transient(errTimeout)
	}
	// What failed, without the URL: the operation and key are said already.
	var uerr *url.Error
	if errors.As(err, &uerr) {
		err = uerr.Err
	}
	if permanentNetwork(err) {
		return err
	}
	return objstore.Transient(err)
}

// permanentNetwork: a certificate that does not fit and a server that does not speak
// TLS do not mend themselves. Everything else on a network may.
func permanentNetwork(err error) bool {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) ||
		errors.As(err, &verify) || errors.As(err, &record) ||
		errors.Is(err, http.ErrSchemeMismatch)
}

func classifyResponse(resp minio.ErrorResponse, conditional bool) error {
	e := &Error{Status: resp.StatusCode, Code: resp.Code, Message: resp.Message}
	switch {
	case resp.StatusCode == http.StatusPreconditionFailed:
		return fs.ErrExist
	case resp.StatusCode == http.StatusConflict:
		return classifyConflict(e, conditional)
	case resp.StatusCode == http.StatusNotFound && resp.Code != minio.NoSuchBucket:
		return fs.ErrNotExist
	case resp.StatusCode == http.StatusNotImplemented && conditional:
		return fmt.Errorf("%w: %w", objstore.ErrNoConditionalPut, e)
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout,
		resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented,
		// Sent with status 400 by some stores.
		resp.Code == "RequestTimeout", resp.Code == "SlowDown", resp.Code == "IncompleteBody":
		return objstore.Transient(e)
	}
	return e
}

// classifyConflict tells "another write in flight" from the other uses of 409, such as
// a key below one that is an object, which no repetition mends.
func classifyConflict(e *Error, conditional bool) error {
	switch e.Code {
	case "ConditionalRequestConflict", "OperationAborted", minio.Conflict:
		if conditional {
			return fmt.Errorf("%w: %w", objstore.ErrConflict, e)
		}
		return objstore.Transient(e)
	}
	return e
}
