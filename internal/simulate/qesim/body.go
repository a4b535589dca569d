package qesim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Input is what a job was asked to do: the key input of the body of POST /jobs (contract: peers.md 2.3).
type Input struct {
	Definition   string            `json:"cohortDefinitionSyntax"`
	Mode         string            `json:"mode"`
	Owner        string            `json:"ownerEntityId"`
	Name         string            `json:"cohortDefinitionName"`
	UUID         string            `json:"cohortUuid,omitempty"`
	CallbackPath string            `json:"callbackPath,omitempty"`
	CallbackURL  string            `json:"callbackUrl,omitempty"`
	ExistingID   int64             `json:"existingCohortId,omitempty"`
	Options      map[string]string `json:"modeOptions,omitempty"`
	Resolver     string            `json:"resolver,omitempty"`
}

// The modes of jobs.
const (
	Count        = "count"
	CountAll     = "count_all"
	CountDetails = "count_with_details"
	Create       = "create"
	CreateDiff   = "create_diff"
)

func creates(mode string) bool { return mode == Create || mode == CreateDiff }

// ParseBody reads the body of POST /jobs: JSON, or the "path = value" notation, both as the real one does.
func ParseBody(body []byte) (Input, error) {
	values, err := parseValues(body)
	if err != nil {
		return Input{}, err
	}
	get := func(key string) string { return asText(values[key]) }
	in := Input{Definition: get("cohortDefinitionSyntax"), Mode: get("mode"), Owner: get("ownerEntityId"),
		Name: get("cohortDefinitionName"), UUID: get("cohortUuid"), CallbackPath: get("callbackPath"),
		CallbackURL: get("callbackUrl"), Resolver: get("resolver"), Options: map[string]string{}}
	if in.Owner == "" {
		in.Owner = "0"
	}
	if in.Name == "" {
		in.Name = "Unnamed Cohort"
	}
	if _, ok := values["cohortDefinitionSyntax"].(string); !ok {
		return Input{}, message("No configuration setting found for key 'input.cohortDefinitionSyntax'")
	}
	switch in.Mode {
	case Count, CountAll, CountDetails, Create, CreateDiff:
	default:
		return Input{}, messagef("No value found for mode '%s'", in.Mode)
	}
	if id := get("existingCohortId"); id != "" {
		if in.ExistingID, err = strconv.ParseInt(id, 10, 64); err != nil {
			return Input{}, errors.New("input.existingCohortId has type STRING rather than NUMBER")
		}
	}
	switch options := values["modeOptions"].(type) {
	case nil:
	case map[string]any:
		for key, value := range options {
			if value != nil {
				in.Options[key] = asText(value)
			}
		}
	default:
		return Input{}, errors.New("input.modeOptions has type STRING rather than OBJECT")
	}
	return in, nil
}

func asText(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	text, err := json.Marshal(value)
	if err != nil { // cannot be: it was read from JSON
		return ""
	}
	return string(text)
}

func parseValues(body []byte) (map[string]any, error) {
	trimmed := bytes.TrimSpace(body)
	if len(trimmed) > 0 && trimmed[0] == '{' {
		var document struct{ Input map[string]any }
		decoder := json.NewDecoder(bytes.NewReader(trimmed))
		decoder.UseNumber()
		if err := decoder.Decode(&document); err != nil {
			return nil, fmt.Errorf("the body is not a document: %w", err)
		}
		if document.Input == nil {
			return nil, message("No configuration setting found for key 'input'")
		}
		return document.Input, nil
	}
	return parsePairs(string(trimmed))
}

// parsePairs reads "input.key = value" pairs, separated by commas or ends of lines.
func parsePairs(rest string) (map[string]any, error) {
	values := map[string]any{}
	for {
		rest = strings.TrimLeft(rest, ", \t\r\n")
		if rest == "" {
			break
		}
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			return nil, errors.New("expecting a = after a key")
		}
		key = strings.TrimSpace(key)
		if strings.ContainsAny(key, "\n,{}[]\"") {
			return nil, errors.New("a key is not readable")
		}
		value, left, err := pairValue(strings.TrimLeft(after, " \t"))
		if err != nil {
			return nil, fmt.Errorf("value of %s: %w", key, err)
		}
		rest = left
		if name, ok := strings.CutPrefix(key, "input."); ok {
			values[name] = value
		}
	}
	if len(values) == 0 {
		return nil, message("No configuration setting found for key 'input'")
	}
	return values, nil
}

func pairValue(text string) (value any, rest string, err error) {
	if text != "" && strings.ContainsRune(`"{[`, rune(text[0])) {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&value); err != nil {
			return nil, "", err
		}
		return value, text[decoder.InputOffset():], nil
	}
	end := strings.IndexAny(text, ",\n")
	if end < 0 {
		end = len(text)
	}
	raw := strings.TrimSpace(text[:end])
	if strings.ContainsAny(raw, "$\"{}[]:=+#`^?!@*&\\") || strings.Contains(raw, "//") {
		return nil, "", errors.New("reserved character not allowed outside quotes")
	}
	if raw == "null" {
		return nil, text[end:], nil
	}
	return raw, text[end:], nil
}
