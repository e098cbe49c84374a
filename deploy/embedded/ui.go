package embedded

import (
	"context"
	"fmt"
	"net/http"
	"time"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uioptions "github.com/temporalio/ui-server/v2/server/server_options"
)

// startUI serves Temporal's web UI on host:port and waits until it answers. The port
// must have been found free just before: the UI server ends the process when it is not.
func startUI(ctx context.Context, temporalAddr, host string, port int) (*uiserver.Server, error) {
	ui := uiserver.NewServer(uioptions.WithConfigProvider(&uiconfig.Config{
		TemporalGRPCAddress: temporalAddr,
		Host:                host,
		Port:                port,
		EnableUI:            true,
		DefaultNamespace:    Namespace,
		HideLogs:            true,
		// It calls nobody: no news, no releases, no codec server.
		DisableNewsFetch:   true,
		NotifyOnNewVersion: false,
		FeedbackURL:        "",
		CORS:               uiconfig.CORS{CookieInsecure: true}, // it is served without TLS
	}))
	go func() { _ = ui.Start() }()

	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	url := fmt.Sprintf("http://%s:%d/healthz", dialHost(host), port)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return nil, fmt.Errorf("temporal ui: %w", err)
		}
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
			return ui, nil
		}
		select {
		case <-ctx.Done():
			ui.Stop()
			return nil, fmt.Errorf("temporal ui: not ready: %w", ctx.Err())
		case <-tick.C:
		}
	}
}
