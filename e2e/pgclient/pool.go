package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const invalidPassword = "28P01" // PostgreSQL, appendix A

// Pool is a pool of connections that log in with a secret of secretsd.
type Pool struct {
	Agent, TokenFile, Secret string // http://127.0.0.1:2773, /run/secretsd/token, prod/db

	pool    *pgxpool.Pool
	turn    chan struct{} // held by whoever uses what follows
	login   version       // what connections log in with
	refused []string      // the versions that the database has refused
}

type version struct {
	VersionID    string `json:"VersionId"`
	SecretString string
}

// Open makes the pool, of what pgxpool.ParseConfig returned.
func (p *Pool) Open(ctx context.Context, cfg *pgxpool.Config) (err error) {
	p.turn = make(chan struct{}, 1)
	cfg.BeforeConnect = p.beforeConnect
	p.pool, err = pgxpool.NewWithConfig(ctx, cfg)
	return err
}

// Acquire takes a connection from the pool. One that is refused is opened once
// more, with what beforeConnect finds then.
func (p *Pool) Acquire(ctx context.Context) (*pgxpool.Conn, error) {
	conn, err := p.pool.Acquire(ctx)
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == invalidPassword {
		return p.pool.Acquire(ctx)
	}
	return conn, err
}

// beforeConnect gives a connection its user and password, and never a version that
// the database has refused: one connection asks for another, and all wait. While
// secretsd does not answer, what worked last goes on.
func (p *Pool) beforeConnect(ctx context.Context, c *pgx.ConnConfig) error {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	current, err := p.ask(ctx, http.MethodGet, "/secretsmanager/get", nil)
	switch {
	case err == nil && !slices.Contains(p.refused, current.VersionID):
		p.login, p.refused = current, nil
	case p.login.VersionID == "":
		return err
	case slices.Contains(p.refused, p.login.VersionID):
		if err := p.replace(ctx); err != nil {
			return err
		}
	}
	var account struct{ Username, Password string }
	if json.Unmarshal([]byte(p.login.SecretString), &account) != nil {
		return fmt.Errorf("secret %s is not JSON", p.Secret)
	}
	id, onError := p.login.VersionID, c.OnPgError
	c.User, c.Password = account.Username, account.Password
	c.OnPgError = func(conn *pgconn.PgConn, e *pgconn.PgError) bool {
		if e.Code == invalidPassword {
			p.turn <- struct{}{}
			if !slices.Contains(p.refused, id) {
				p.refused = append(p.refused, id)
			}
			<-p.turn
		}
		return onError(conn, e)
	}
	return nil
}

// replace asks for a version that the database has not refused.
func (p *Pool) replace(ctx context.Context) error {
	v, err := p.ask(ctx, http.MethodPost, "/secretsd/refresh", p.refused)
	if err == nil && v.SecretString == "" {
		v, err = p.ask(ctx, http.MethodGet, "/secretsmanager/get", nil)
	}
	if err != nil {
		return err
	}
	if slices.Contains(p.refused, v.VersionID) {
		p.refused = nil // a minute has passed: it may be right by now
		return fmt.Errorf("the database refuses secret %s, and there is no other version", p.Secret)
	}
	p.login = v
	return nil
}

// ask sends a request to secretsd, which answers within 70 seconds.
func (p *Pool) ask(ctx context.Context, method, path string, refused []string) (v version, err error) {
	ctx, cancel := context.WithTimeout(ctx, 75*time.Second)
	defer cancel()
	query := url.Values{"secretId": {p.Secret}, "refused": refused}.Encode()
	req, err := http.NewRequestWithContext(ctx, method, p.Agent+path+"?"+query, nil)
	if err != nil {
		return v, err
	}
	token, err := os.ReadFile(p.TokenFile)
	if err != nil {
		return v, err
	}
	req.Header.Set("X-Aws-Parameters-Secrets-Token", strings.TrimSpace(string(token)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return v, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return v, fmt.Errorf("%s of secret %s: secretsd answers %s", path, p.Secret, res.Status)
	}
	return v, json.NewDecoder(res.Body).Decode(&v)
}
