package faultplan

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	event := Event{Peer: "qe", Route: "POST /jobs", Mode: "count", Owner: "me", UUID: "u"}
	for name, tt := range map[string]struct {
		rule Rule
		want []int // how many rules strike, event by event
	}{
		"Always":       {Rule{}, []int{1, 1, 1}},
		"Once":         {Rule{Times: 1}, []int{1, 0, 0}},
		"EverySecond":  {Rule{Nth: 2}, []int{0, 1, 0, 1}},
		"SecondOnce":   {Rule{Nth: 2, Times: 1}, []int{0, 1, 0, 0}},
		"Certain":      {Rule{Probability: 1}, []int{1, 1, 1}},
		"ThisMode":     {Rule{Mode: "count"}, []int{1}},
		"AnotherMode":  {Rule{Mode: "create"}, []int{0}},
		"AnotherOwner": {Rule{Owner: "you"}, []int{0}},
		"AnotherUUID":  {Rule{UUID: "v"}, []int{0}},
		"AnotherRoute": {Rule{Route: "GET /jobs"}, []int{0}},
		"AnotherStage": {Rule{Stage: "DATA"}, []int{0}},
		"AnotherPeer":  {Rule{Peer: "etl"}, []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(1)
			if tt.rule.Peer == "" {
				tt.rule.Peer = "qe"
			}
			tt.rule.Action = Reset
			require.NoError(t, p.Set(tt.rule))
			for i, want := range tt.want {
				require.Empty(t, p.Decide(event, Hang), "another action")
				require.Len(t, p.Decide(event, Reset), want, "event %d", i)
			}
		})
	}
}

func TestRulesThatCannotWorkAreRefusedTogether(t *testing.T) {
	t.Parallel()
	p := New(1)
	require.NoError(t, p.Set(Rule{Peer: "qe", Action: Hang}))
	err := p.Set(Rule{Peer: "moon", Action: "melt"}, Rule{Peer: "qe", Action: Status}, Rule{Peer: "qe", Action: Hang, Probability: 2}, Rule{Peer: "qe", Action: Hang, Nth: -1})
	for _, part := range []string{"moon", "melt", "rule 1", "rule 2", "rule 3"} {
		require.ErrorContains(t, err, part)
	}
	require.Equal(t, []Rule{{Peer: "qe", Action: Hang}}, p.Rules(), "nothing was changed")
}

func TestRulesTravelAsJSON(t *testing.T) {
	t.Parallel()
	var r Rule
	require.NoError(t, json.Unmarshal([]byte(`{"peer":"qe","action":"delay","for":"1m30s"}`), &r))
	text, err := json.Marshal(r)
	require.NoError(t, err)
	require.JSONEq(t, `{"peer":"qe","action":"delay","for":"1m30s"}`, string(text))
	require.Error(t, json.Unmarshal([]byte(`{"for":"soon"}`), &r))
}
