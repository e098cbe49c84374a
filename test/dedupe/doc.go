// Package dedupe holds tests of sources that have no positions, RabbitMQ and MQTT: the
// product's own process is killed around its commit, and the broker goes away, while
// messages come in. Afterwards every message that a publisher was answered for must be in
// the table, once, found by its key or by its message id.
package dedupe
