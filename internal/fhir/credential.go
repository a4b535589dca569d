package fhir

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// StaticToken is a bearer token that never changes (FHIR_ACCESS_TOKEN). An empty one sends nothing.
type StaticToken string

// Authorization implements Credential.
func (t StaticToken) Authorization(context.Context) (string, error) {
	if t == "" {
		return "", nil
	}
	return "Bearer " + string(t), nil
}

// String hides the token from logs and messages.
func (StaticToken) String() string { return "[set]" }

// GoString hides the token from %#v.
func (StaticToken) GoString() string { return "[set]" }

// ClientCredentials is an OAuth 2.0 client that fetches its own token and keeps it until shortly before its end
// (FHIR_TOKEN_URL, FHIR_CLIENT_ID, FHIR_CLIENT_SECRET; decision 33).
type ClientCredentials struct {
	cfg  clientcredentials.Config
	http *http.Client

	mu    sync.Mutex
	token *oauth2.Token
}

// NewClientCredentials checks that all is there. It fetches nothing. The HTTP client is httpclient's Standard one.
func NewClientCredentials(client *http.Client, tokenURL, id, secret string, scopes ...string) (*ClientCredentials, error) {
	if client == nil || tokenURL == "" || id == "" || secret == "" {
		return nil, errors.New("fhir: client credentials need an HTTP client, FHIR_TOKEN_URL, FHIR_CLIENT_ID and FHIR_CLIENT_SECRET")
	}
	return &ClientCredentials{http: client, cfg: clientcredentials.Config{
		TokenURL: tokenURL, ClientID: id, ClientSecret: secret, Scopes: scopes}}, nil
}

// Authorization implements Credential. Callers at the same moment share one request for a token.
func (c *ClientCredentials) Authorization(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.token.Valid() {
		token, err := c.cfg.Token(context.WithValue(ctx, oauth2.HTTPClient, c.http))
		if err != nil {
			return "", tokenError(ctx, err)
		}
		c.token = token
	}
	return c.token.Type() + " " + c.token.AccessToken, nil
}

// tokenError keeps the answer of the token endpoint out of the text: it may repeat what it was sent.
func tokenError(ctx context.Context, err error) error {
	var refused *oauth2.RetrieveError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("fhir: fetch a token: %w", ctx.Err())
	case errors.As(err, &refused) && refused.Response != nil:
		code := refused.Response.StatusCode
		return &Error{Text: fmt.Sprintf("The token endpoint of the FHIR server refused (%s).", status(code)), Status: code}
	}
	return &Error{Text: "The token endpoint of the FHIR server gave no usable token."}
}
