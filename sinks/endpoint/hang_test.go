package endpoint

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

type hanging struct{}

func (hanging) Read(ctx context.Context, _ Query) (Answer, error) {
	<-ctx.Done()
	return Answer{}, ctx.Err()
}

// TestAReadThatHangsIsAnswered is row C42 of the contract, which AWS's agent
// answers after a minute by closing the connection.
func TestAReadThatHangsIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, r := benchCore(t)
		c.reader = hanging{}
		for _, role := range []string{"", "&roleArn=arn:aws:iam::123456789012:role/a"} {
			began := time.Now()
			r.target = "/secretsmanager/get?secretId=SleepyTest_99" + role
			got := c.answer(t.Context(), r)
			if got.status != 504 || string(got.body) != `{"__type":"TimeoutError","message":"Timeout"}` {
				t.Errorf("%d %s", got.status, got.body)
			}
			if took := time.Since(began); took != readLimit {
				t.Errorf("answered after %s", took)
			}
		}
	})
}
