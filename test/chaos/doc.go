// Package chaos holds the tests that kill Tidemill: a real process, at named
// steps and at random moments, while a real Kafka broker and files feed it
// numbered events. Maintenance runs all the time, with so short a retention that it has
// files and commits to delete. What counts is in the tables afterwards: every event exactly
// once, where it belongs, with nothing about it changed.
//
// There is only test code here. What a single layer does under failure is
// tested beside that layer.
package chaos
