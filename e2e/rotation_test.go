package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"

	"secretsd/agent/source/local"
)

const (
	awsCurrent, awsPending = "AWSCURRENT", "AWSPENDING"
	masterSecret           = "prod/master"
)

// rotator is a rotation function, with the steps of AWS's templates
// SecretsManagerRDSPostgreSQLRotationSingleUser and …MultiUser
// (github.com/aws-samples/aws-secrets-manager-rotation-lambdas).
type rotator struct {
	sm *secretsmanager.Client
	pg *postgres
	// alternate is …MultiUser: the master gives a new password to the user that
	// applications do not use at the moment.
	alternate bool
}

// account is the value of a secret.
type account struct {
	Engine   string `json:"engine"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// newRotator returns a function for the server, and the address of the Secrets
// Manager that has its secrets.
func newRotator(t *testing.T, pg *postgres, alternate bool) (r *rotator, service string) {
	t.Helper()
	srv := httptest.NewServer(local.New(local.Options{}))
	t.Cleanup(srv.Close)
	r = &rotator{pg: pg, alternate: alternate, sm: secretsmanager.New(secretsmanager.Options{Region: "us-east-1",
		BaseEndpoint: aws.String(srv.URL), Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})}
	if err := r.create(t.Context(), masterSecret, account{Username: "admin", Password: pg.password}); err != nil {
		t.Fatal(err)
	}
	return r, srv.URL
}

func (r *rotator) create(ctx context.Context, id string, a account) error {
	_, err := r.sm.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: &id, SecretString: aws.String(a.json())})
	return err
}

func (a account) json() string {
	a.Engine = "postgres"
	text, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// value reads the account at a stage, or an empty one if there is none.
func (r *rotator) value(ctx context.Context, id, stage string) (a account, err error) {
	out, err := r.sm.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &id, VersionStage: &stage})
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal([]byte(*out.SecretString), &a)
}

// login logs in and out with the account.
func (r *rotator) login(ctx context.Context, a account) error {
	conn, err := r.pg.login(ctx, a.Username, a.Password)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// rotate makes one rotation and returns the id of the new version. Between the
// first three steps and the last it calls between.
func (r *rotator) rotate(ctx context.Context, id string, between func(version string) error) (string, error) {
	token := rand.Text() + "-0123456" // 26 characters of at least 32
	for _, step := range []struct {
		name string
		run  func(ctx context.Context, id, token string) error
	}{
		{"createSecret", r.createSecret},
		{"setSecret", r.setSecret},
		{"testSecret", r.testSecret},
		{"wait", func(context.Context, string, string) error { return between(token) }},
		{"finishSecret", r.finishSecret},
	} {
		if err := step.run(ctx, id, token); err != nil {
			return "", fmt.Errorf("%s of %s: %w", step.name, id, err)
		}
	}
	return token, nil
}

// createSecret stores the next account as AWSPENDING. Passwords begin with the
// number of their rotation, so that logs can say which one it is.
func (r *rotator) createSecret(ctx context.Context, id, token string) error {
	a, err := r.value(ctx, id, awsCurrent)
	if err != nil {
		return err
	}
	random, err := r.sm.GetRandomPassword(ctx, &secretsmanager.GetRandomPasswordInput{ExcludeCharacters: aws.String(`/@"'\`)})
	if err != nil {
		return err
	}
	number, _, _ := strings.Cut(a.Password, ".")
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	a.Password = fmt.Sprintf("%d.%s", n+1, *random.RandomPassword)
	if r.alternate {
		name, isClone := strings.CutSuffix(a.Username, "_clone")
		if a.Username = name; !isClone {
			a.Username += "_clone"
		}
	}
	_, err = r.sm.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: &id, ClientRequestToken: &token,
		SecretString: aws.String(a.json()), VersionStages: []string{awsPending}})
	return err
}

// setSecret gives the database the password of AWSPENDING.
func (r *rotator) setSecret(ctx context.Context, id, _ string) error {
	pending, err := r.value(ctx, id, awsPending)
	if err != nil {
		return err
	}
	if r.login(ctx, pending) == nil {
		return nil // an attempt before this one has done it
	}
	current, err := r.value(ctx, id, awsCurrent)
	if err != nil {
		return err
	}
	as := current
	if r.alternate {
		if as, err = r.value(ctx, masterSecret, awsCurrent); err != nil {
			return err
		}
	}
	conn, err := r.pg.login(ctx, as.Username, as.Password)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var found bool
	if err := conn.QueryRow(ctx, "SELECT true FROM pg_roles WHERE rolname = $1", pending.Username).Scan(&found); errors.Is(err, pgx.ErrNoRows) {
		if err := statement(ctx, conn, "CREATE ROLE %I LOGIN PASSWORD %L", pending.Username, pending.Password); err != nil {
			return err
		}
		return statement(ctx, conn, "GRANT %I TO %I", current.Username, pending.Username)
	} else if err != nil {
		return err
	}
	return statement(ctx, conn, "ALTER ROLE %I PASSWORD %L", pending.Username, pending.Password)
}

// testSecret logs in with AWSPENDING.
func (r *rotator) testSecret(ctx context.Context, id, _ string) error {
	pending, err := r.value(ctx, id, awsPending)
	if err != nil {
		return err
	}
	return r.login(ctx, pending)
}

// finishSecret moves AWSCURRENT to the new version.
func (r *rotator) finishSecret(ctx context.Context, id, token string) error {
	secret, err := r.sm.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &id})
	if err != nil {
		return err
	}
	var from *string
	for version, stages := range secret.VersionIdsToStages {
		for _, stage := range stages {
			if stage == awsCurrent {
				from = aws.String(version)
			}
		}
	}
	_, err = r.sm.UpdateSecretVersionStage(ctx, &secretsmanager.UpdateSecretVersionStageInput{SecretId: &id,
		VersionStage: aws.String(awsCurrent), MoveToVersionId: &token, RemoveFromVersionId: from})
	return err
}
