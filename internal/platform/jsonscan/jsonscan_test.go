package jsonscan

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

var samples = []string{
	`{}`, `[]`, `""`, `0`, `-0.5e+3`, `1e9`, `true`, `false`, `null`, ` { "a" : [ 1 , "x\"y" , { } ] , "b":null } `,
	`{"é":"\u00e9\ud83d\ude00\n\t\\\/"}`, `[[[[1]]],"a long enough string to be looked at eight bytes at a time"]`,
	`{`, `[1,]`, `{"a":1,}`, `{"a"}`, `{"a" 1}`, `{a:1}`, `[1 2]`, `tru`, `trux`, `01`, `-`, `1.`, `1e`, `.5`, `+1`, "\"a\nb\"", `"\x"`, `"\u12g4"`,
	`"abc`, `]`, `}`, ``, `{"a":1]`, `[1}`, `{"a":"b"`, `"12345678\`, `"1234567`, `nul`, `"\ud83d"`, "\"\x7f\xff\"", `{"a":{"b":{"c":[]}}}`,
}

// whole tells whether b is one value and nothing else.
func whole(b []byte) error {
	i := Space(b, 0)
	end, err := Value(b, i)
	if err == nil && Space(b, end) != len(b) {
		err = ErrSyntax
	}
	return err
}

func TestValueAgreesWithTheStandardLibrary(t *testing.T) {
	t.Parallel()
	for _, s := range samples {
		text := s + " " // a number ends only where something follows
		require.Equal(t, json.Valid([]byte(text)), whole([]byte(text)) == nil, "%q", s)
	}
}

func TestValueAsksForMore(t *testing.T) {
	t.Parallel()
	text := `{"a":[1,-2.5e3,"x\u00e9\"y",true,null,{"b":"a long enough string to be looked at"}],"c":{}}`
	for i := range len(text) {
		_, err := Value([]byte(text[:i]), 0)
		require.ErrorIs(t, err, ErrIncomplete, "%q", text[:i])
	}
	end, err := Value([]byte(text), 0)
	require.NoError(t, err)
	require.Equal(t, len(text), end)
}

func TestValueRefusesEndlessNesting(t *testing.T) {
	t.Parallel()
	_, err := Value([]byte(strings.Repeat("[", 1<<20)), 0)
	require.ErrorIs(t, err, ErrSyntax)
}

func TestMembersAndElements(t *testing.T) {
	t.Parallel()
	var got []string
	require.NoError(t, Members([]byte(` {"a" : 1 ,"b":[ {"x":"}"}, 2 ], "c":"é\"" , "d":{}} `), func(key, value []byte) bool {
		got = append(got, string(key)+"="+string(value))
		return true
	}))
	require.Equal(t, []string{`a=1`, `b=[ {"x":"}"}, 2 ]`, `c="é\""`, `d={}`}, got)
	got = nil
	require.NoError(t, Elements([]byte(`[ 1, "a" ,[2,3],{"b":[]} ]`), func(e []byte) bool {
		got = append(got, string(e))
		return len(got) < 4
	}))
	require.Equal(t, []string{`1`, `"a"`, `[2,3]`, `{"b":[]}`}, got)
	require.NoError(t, Members([]byte(`[1]`), func(_, _ []byte) bool { t.Fatal("no object"); return false }))
	require.Error(t, Members([]byte(`{"a":1`), func(_, _ []byte) bool { return true }))
}

func FuzzAgainstTheStandardLibrary(f *testing.F) {
	for _, s := range samples {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := []byte(s + " ")
		if strings.Count(s, "[")+strings.Count(s, "{") < MaxDepth {
			require.Equal(t, json.Valid(b), whole(b) == nil, "%q", s)
		}
		_, _ = Skip(b, 0) // whatever it is, it comes to an end
		_ = Members(b, func(_, v []byte) bool { return Elements(v, func([]byte) bool { return true }) == nil })
		var text string
		if trimmed := strings.TrimSpace(s); utf8.ValidString(s) && strings.HasPrefix(trimmed, `"`) && json.Unmarshal([]byte(trimmed), &text) == nil {
			require.Equal(t, text, string(AppendString(nil, []byte(trimmed))))
		}
		require.False(t, errors.Is(whole(b), ErrIncomplete) && json.Valid(b))
	})
}
