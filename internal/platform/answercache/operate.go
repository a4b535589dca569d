package answercache

import (
	"context"
	"fmt"
	"time"
)

// operatorPatience bounds what operators ask for: it reads all that is kept.
const operatorPatience = 10 * time.Second

// Show implements web.Answers.
func (c *Cache) Show(ctx context.Context, contains string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, operatorPatience)
	defer cancel()
	list, err := c.entries(ctx, contains)
	if err != nil {
		return nil, err
	}
	shown := make(map[string]any, len(list))
	for _, e := range list {
		headers := map[string][]string{}
		for name, values := range e.Header {
			headers[name] = []string{name, values[0]}
		}
		shown[e.Key] = []any{string(e.Body), e.Status, headers}
	}
	return shown, nil
}

// Forget implements web.Answers.
func (c *Cache) Forget(ctx context.Context, contains string) error {
	ctx, cancel := context.WithTimeout(ctx, operatorPatience)
	defer cancel()
	list, err := c.entries(ctx, contains)
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := c.cfg.Redis.Del(ctx, e.place).Err(); err != nil {
			return fmt.Errorf("forget a kept answer: %w", err)
		}
	}
	return nil
}
