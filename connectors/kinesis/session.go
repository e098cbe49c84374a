package kinesis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/redpanda-data/benthos/v4/public/utils/netutil"
)

// session says where a service of AWS is and how to log in.
type session struct {
	region, endpoint           string
	profile, id, secret, token string
	ec2                        bool
	role, externalID           string
	dials                      bool // dialer counts
	dialer                     netutil.DialerConfig
}

// load makes what clients are made of. It reads files and the environment, and asks nobody.
func (s session) load(ctx context.Context) (aws.Config, error) {
	var o []func(*awsconfig.LoadOptions) error
	if s.region != "" {
		o = append(o, awsconfig.WithRegion(s.region))
	}
	if s.profile != "" {
		o = append(o, awsconfig.WithSharedConfigProfile(s.profile))
	}
	switch {
	case s.id != "":
		o = append(o, awsconfig.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(s.id, s.secret, s.token)))
	case s.ec2:
		o = append(o, awsconfig.WithCredentialsProvider(ec2rolecreds.New()))
	}
	if s.dials {
		d := &net.Dialer{}
		if err := netutil.DecorateDialer(d, s.dialer); err != nil {
			return aws.Config{}, fmt.Errorf("tcp: %w", err)
		}
		o = append(o, awsconfig.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.DialContext = d.DialContext })))
	}
	c, err := awsconfig.LoadDefaultConfig(ctx, o...)
	if err != nil {
		return c, fmt.Errorf("credentials: %w", err)
	}
	if c.Region == "" {
		return c, errors.New("region: missing; write the region of the streams, or set AWS_REGION")
	}
	if s.endpoint != "" {
		c.BaseEndpoint = aws.String(s.endpoint)
	}
	if s.role != "" {
		c.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c), s.role, func(o *stscreds.AssumeRoleOptions) {
			if s.externalID != "" {
				o.ExternalID = aws.String(s.externalID)
			}
		}))
	}
	return c, nil
}
