package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
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
	turn    chan struct{} // held by whoever uses login
	login   version       // what connections log in with
	refused atomic.Value  // the id of the version that the database refused last
}

type version struct {
	VersionID    string `json:"VersionId"`
	SecretString string
}

// Open makes the pool, of what pgxpool.ParseConfig returned.
func (p *Pool) Open(ctx context.Context, cfg *pgxpool.Config) (err error) {
	p.turn = make(chan struct{}, 1)
	p.refused.Store("")
	cfg.BeforeConnect = p.beforeConnect
	p.pool, err = pgxpool.NewWithConfig(ctx, cfg)
	return err
}

// Acquire takes a connection. One that was refused is opened once more, with
// what beforeConnect then finds.
func (p *Pool) Acquire(ctx context.Context) (*pgxpool.Conn, error) {
	conn, err := p.pool.Acquire(ctx)
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == invalidPassword {
		return p.pool.Acquire(ctx)
	}
	return conn, err
}

// beforeConnect gives a connection its user and password, and never those that
// the database has refused: then one connection asks for others, and all wait.
func (p *Pool) beforeConnect(ctx context.Context, c *pgx.ConnConfig) error {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	refused := p.refused.Load()
	if v, err := p.ask(ctx, http.MethodGet, "/secretsmanager/get", "", 5*time.Second); err == nil && v.VersionID != refused {
		p.login = v
	} else if p.login.VersionID == "" {
		return err
	}
	if p.login.VersionID == refused {
		v, err := p.ask(ctx, http.MethodPost, "/secretsd/refresh", p.login.VersionID, 75*time.Second)
		if err == nil && v.SecretString == "" {
			v, err = p.ask(ctx, http.MethodGet, "/secretsmanager/get", "", 5*time.Second)
		}
		if err != nil {
			return err
		}
		if v.VersionID == refused {
			p.refused.Store("") // a minute has passed: the database may take it now
			return fmt.Errorf("the database refuses version %s of %s, and there is no other", refused, p.Secret)
		}
		p.login = v
	}
	var user struct{ Username, Password string }
	if json.Unmarshal([]byte(p.login.SecretString), &user) != nil {
		return fmt.Errorf("secret %s is not JSON", p.Secret)
	}
	id, onError := p.login.VersionID, c.OnPgError
	c.User, c.Password = user.Username, user.Password
	c.OnPgError = func(conn *pgconn.PgConn, e *pgconn.PgError) bool {
		if e.Code == invalidPassword {
			p.refused.Store(id)
		}
		return onError(conn, e)
	}
	return nil
}

// ask sends one request to secretsd.
func (p *Pool) ask(ctx context.Context, method, path, refused string, limit time.Duration) (v version, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	query := url.Values{"secretId": {p.Secret}}
	if refused != "" {
		query.Set("refused", refused)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.Agent+path+"?"+query.Encode(), nil)
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
