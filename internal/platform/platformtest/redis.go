package platformtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Leases are keys of database 0. One outlives the longest test by far, and ends by itself after a killed one.
const (
	leasePrefix  = "platformtest:lease:"
	leaseCounter = "platformtest:next"
	leaseTime    = time.Hour
)

// release deletes a lease that is still ours.
var release = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)

func leaseRedis(t testing.TB, base string) string {
	t.Helper()
	options, err := redis.ParseURL(base)
	if err != nil {
		t.Fatal("TEST_REDIS_URL is no URL of the form redis://:password@host:port/0") // without the password
	}
	options.DB = 0
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	leases := redis.NewClient(options)
	t.Cleanup(func() { _ = leases.Close() })
	owner := rand.Text()
	number, err := lease(ctx, leases, owner)
	if err != nil {
		t.Fatalf("lease a Redis database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience) // that of the test is over
		defer cancel()
		if err := errors.Join(flush(ctx, options, number), giveBack(ctx, leases, owner, number)); err != nil {
			t.Errorf("give back Redis database %d: %v", number, err)
		}
	})
	if err := flush(ctx, options, number); err != nil { // what a killed test left
		t.Fatal(err)
	}
	return withNumber(base, number)
}

// lease takes a database that nobody holds, and waits when there is none. The counter only spreads the attempts.
func lease(ctx context.Context, client *redis.Client, owner string) (int, error) {
	databases, err := client.ConfigGet(ctx, "databases").Result()
	if err != nil {
		return 0, fmt.Errorf("ask how many databases there are: %w", err)
	}
	count, err := strconv.Atoi(databases["databases"])
	if err != nil || count < 2 {
		return 0, fmt.Errorf("databases is %q: at least 2 are needed", databases["databases"])
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for attempt := 1; ; attempt++ {
		next, err := client.Incr(ctx, leaseCounter).Result()
		if err != nil {
			return 0, fmt.Errorf("count: %w", err)
		}
		number := int(next%int64(count-1)) + 1 // 0 is for the leases
		took, err := client.SetNX(ctx, leaseKey(number), owner, leaseTime).Result()
		if err != nil {
			return 0, fmt.Errorf("take database %d: %w", number, err)
		}
		if took {
			return number, nil
		}
		if attempt%count != 0 {
			continue
		}
		select { // all are taken
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("all %d are taken: %w", count-1, ctx.Err())
		}
	}
}

func giveBack(ctx context.Context, client *redis.Client, owner string, number int) error {
	if err := release.Run(ctx, client, []string{leaseKey(number)}, owner).Err(); err != nil {
		return fmt.Errorf("end its lease: %w", err)
	}
	return nil
}

func flush(ctx context.Context, options *redis.Options, number int) error {
	own := *options
	own.DB = number
	client := redis.NewClient(&own)
	defer func() { _ = client.Close() }()
	if err := client.FlushDB(ctx).Err(); err != nil {
		return fmt.Errorf("empty Redis database %d: %w", number, err)
	}
	return nil
}

func leaseKey(number int) string { return leasePrefix + strconv.Itoa(number) }

// withNumber is base, which was parsed before, with another database.
func withNumber(base string, number int) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	u.Path = "/" + strconv.Itoa(number)
	return u.String()
}
