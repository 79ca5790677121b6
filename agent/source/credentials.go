package source

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// fileLifetime is how long credentials of a file are used before it is read
// again. The file tells no expiry, and whoever renews it tells nobody.
const fileLifetime = time.Minute

// fileCredentials are the credentials of a shared credentials file, read anew
// at every Retrieve.
type fileCredentials struct {
	path string
	load func(context.Context) (aws.CredentialsProvider, error)
}

// Retrieve implements [aws.CredentialsProvider].
func (f *fileCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if err := checkPrivate(f.path); err != nil {
		return aws.Credentials{}, err
	}
	p, err := f.load(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	creds, err := p.Retrieve(ctx)
	if err == nil && !creds.CanExpire {
		creds.CanExpire, creds.Expires = true, time.Now().Add(fileLifetime)
	}
	return creds, err
}

// chainCredentials marks what the credential chain or STS answers, so that it
// is told apart from Secrets Manager's own answers.
type chainCredentials struct{ inner aws.CredentialsProvider }

// Retrieve implements [aws.CredentialsProvider]; its error is a
// *[credentialsError].
func (p chainCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	creds, err := p.inner.Retrieve(ctx)
	if err != nil {
		return creds, &credentialsError{err: err}
	}
	return creds, nil
}

// invalidate forgets credentials that a service has called expired.
func (p chainCredentials) invalidate() {
	if cache, ok := p.inner.(*aws.CredentialsCache); ok {
		cache.Invalidate()
	}
}

// credentialsError is a failure to get credentials. It does not leave the
// package: its text may quote an answer.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "get credentials: " + e.err.Error() }

func (e *credentialsError) Unwrap() error { return e.err }
