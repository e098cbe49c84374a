package embedded

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// temporalLogger passes the server's warnings and errors on to slog.
type temporalLogger struct {
	logger *slog.Logger
	// quiet drops everything but what ends the process; shared by all derived loggers.
	quiet *atomic.Bool
}

var (
	_ log.Logger     = (*temporalLogger)(nil)
	_ log.WithLogger = (*temporalLogger)(nil)
)

func newTemporalLogger(l *slog.Logger) *temporalLogger {
	return &temporalLogger{logger: l.With("service", "temporal"), quiet: new(atomic.Bool)}
}

func (l *temporalLogger) log(level slog.Level, msg string, tags []tag.Tag) {
	ctx := context.Background()
	if l.quiet.Load() || !l.logger.Enabled(ctx, level) {
		return
	}
	l.logger.LogAttrs(ctx, level, msg, attrs(tags)...)
}

func attrs(tags []tag.Tag) []slog.Attr {
	as := make([]slog.Attr, 0, len(tags))
	for _, t := range tags {
		as = append(as, slog.Any(t.Key(), t.Value()))
	}
	return as
}

func (l *temporalLogger) Debug(string, ...tag.Tag) {}
func (l *temporalLogger) Info(string, ...tag.Tag)  {}

func (l *temporalLogger) Warn(msg string, tags ...tag.Tag) {
	for _, e := range expected {
		if strings.HasPrefix(msg, e) {
			return
		}
	}
	l.log(slog.LevelWarn, msg, tags)
}

// expected are warnings about what is as it should be.
var expected = []string{
	"HTTP API port has not been set",                // another way in that nobody needs
	"GetHistory page size is larger than threshold", // each time the UI shows a pipeline
}

func (l *temporalLogger) Error(msg string, tags ...tag.Tag) { l.log(slog.LevelError, msg, tags) }

// DPanic is an error: it panics in the server's own development only.
func (l *temporalLogger) DPanic(msg string, tags ...tag.Tag) { l.log(slog.LevelError, msg, tags) }

// Panic panics, as its callers expect not to go on.
func (l *temporalLogger) Panic(msg string, tags ...tag.Tag) {
	l.log(slog.LevelError, msg, tags)
	panic("temporal server: " + msg)
}

// Fatal panics too: a library must not end the process behind its caller's back, and
// the stack says more.
func (l *temporalLogger) Fatal(msg string, tags ...tag.Tag) {
	l.log(slog.LevelError, msg, tags)
	panic("temporal server: " + msg)
}

// With implements log.WithLogger.
func (l *temporalLogger) With(tags ...tag.Tag) log.Logger {
	return &temporalLogger{logger: slog.New(l.logger.Handler().WithAttrs(attrs(tags))), quiet: l.quiet}
}
