package s3

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/tidemill/tidemill/internal/secret"
)

// Config says which bucket to use and how to reach it.
type Config struct {
	// Endpoint is host, host:port, or an http(s) URL of the two without user or path.
	// A URL's scheme decides about TLS, whatever TLS says.
	Endpoint string
	Bucket   string
	// Region signs the requests. Empty: us-east-1, or what AWS says for the bucket.
	Region string
	// AccessKey and SecretKey; both empty: AWS_* and MINIO_* variables, the AWS
	// credentials file, then the machine's or pod's role.
	AccessKey    string
	SecretKey    secret.String
	SessionToken secret.String // of temporary credentials
	TLS          bool
	// CreateBucket lets New create the bucket when it is missing.
	CreateBucket bool
	// Timeout bounds the wait for an answer, and any pause in one; default 30 s. A write
	// may take one second per MiB longer.
	Timeout time.Duration
}

// endpoint splits Endpoint into host[:port] and whether to use TLS. Its errors do not
// repeat the endpoint, which may hold a password in the wrong place.
func (c Config) endpoint() (host string, tls bool, err error) {
	host, tls = c.Endpoint, c.TLS
	if strings.Contains(host, "://") {
		u, err := url.Parse(host)
		if err != nil {
			return "", false, errors.New("endpoint is not a URL of the form http(s)://host:port")
		}
		if u.User != nil {
			return "", false, errors.New("endpoint holds credentials; put them into the access and secret key settings")
		}
		if u.Scheme != "http" && u.Scheme != "https" {
			return "", false, fmt.Errorf("endpoint has scheme %q, want http or https", u.Scheme)
		}
		if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return "", false, errors.New("endpoint has a path; want http(s)://host:port, the bucket is a setting of its own")
		}
		host, tls = u.Host, u.Scheme == "https"
	}
	switch {
	case host == "":
		return "", false, errors.New("endpoint is empty; want host:port or http(s)://host:port")
	case strings.Contains(host, "@"):
		return "", false, errors.New("endpoint holds credentials; put them into the access and secret key settings")
	case strings.ContainsAny(host, "/ "):
		return "", false, errors.New("endpoint is not of the form host:port or http(s)://host:port")
	}
	return host, tls, nil
}

func (c Config) validate() (host string, tls bool, err error) {
	var errs []error
	host, tls, err = c.endpoint()
	if err != nil {
		errs = append(errs, err)
	}
	if c.Bucket == "" {
		errs = append(errs, errors.New("bucket is empty"))
	}
	if (c.AccessKey == "") != c.SecretKey.Empty() {
		errs = append(errs, errors.New("access key and secret key: give both, or neither to take them from the environment"))
	}
	return host, tls, errors.Join(errs...)
}

func isAmazon(host string) bool { return s3utils.IsAmazonEndpoint(url.URL{Host: host}) }

// isLoopback reports whether host[:port] never leaves the machine.
func isLoopback(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if name == "localhost" {
		return true
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return ip != nil && ip.IsLoopback()
}
