// Package endpoint serves secrets over HTTP on a loopback address, to the
// contract that clients of AWS's agent (Secrets Manager Agent, Workload
// Credentials Provider) and of the Parameters and Secrets Lambda Extension
// were written for.
//
// It is a sink: the agent gives it an immutable [View] in one step with
// [Server.Publish], and asks nothing back. A request that the view answers
// costs one map lookup and one write of bytes prepared when the view was
// built. All else (a refresh asked for, another stage or version, a secret not
// read yet, an id nobody configured) goes to the [Reader].
//
// What a request means and what it is answered is decided in (*core).answer,
// from a small struct to a small struct; net/http stands only in server.go.
// AWS SDKs are answered too, by the protocol of Secrets Manager itself, from the
// same view and Reader: sdk.go has who asks, sigv4.go how that is known.
//
// Comments that say "peer" mean AWS's agent, whose behaviour the contract
// describes.
package endpoint
