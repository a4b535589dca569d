package identity_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
)

func person(username string) map[string]any {
	return map[string]any{"username": username, "firstname": "Jean", "lastname": "DUPONT", "email": username + "@example.org"}
}

func with(body map[string]any, name string, value any) map[string]any {
	body[name] = value
	return body
}

func TestCreateUser(t *testing.T) {
	t.Parallel()
	var created []string
	var mu sync.Mutex
	each(t, func(c *config) {
		c.users.Created = func(_ context.Context, username string) {
			mu.Lock()
			defer mu.Unlock()
			created = append(created, username)
		}
	}, func(t *testing.T, b bundle) {
		ulla := b.by(t, "ulla")
		ulla.POST("/users/", with(person("u1"), "password", " pw ")).Status(201).
			Is(`{"username":"u1","firstname":"Jean","lastname":"DUPONT","email":"u1@example.org","display_name":"Jean DUPONT (u1)","created_by":"Ulla ROUX (ulla)","updated_by":"Ulla ROUX (ulla)"}`)
		require.Regexp(t, `^\$argon2id\$`, b.password(t, "u1"))
		ulla.POST("/users/", person("u2")).Status(201)
		require.Empty(t, b.password(t, "u2"))
		require.Equal(t, float64(2), ulla.GET("/users/?manual_only=true").Object()["count"], "each got a manual profile")
		ulla.Text("POST", "/users/", "application/x-www-form-urlencoded", "username=u3&firstname=A&lastname=B&email=u3%40example.org&password=pw").Status(201)
		b.login(t, "u3", "pw").Status(200)
		ulla.POST("/users/", map[string]any{"username": "a.b", "firstname": "Anne-Éloïse", "lastname": "O'BRIEN-ÑÚÑEZ", "email": "a+b.c@example.org"}).Status(201)
		ulla.GET("/users/a.b/").Status(200)

		for name, tt := range map[string]struct {
			body any
			want string
		}{
			"NoUsername":       {with(person("x"), "username", nil), `{"username":["This field may not be null."]}`},
			"UsernameTooLong":  {with(person("x"), "username", strings.Repeat("x", 31)), `{"username":["Ensure this field has no more than 30 characters."]}`},
			"UsernameTaken":    {with(person("alice"), "email", "new@example.org"), `{"username":["user with this username already exists."]}`},
			"UsernameOfGone":   {with(person("gone"), "email", "new@example.org"), `{"username":["user with this username already exists."]}`},
			"EmailTaken":       {with(person("x"), "email", "alice@example.org"), `{"email":["user with this email address already exists."]}`},
			"EmailOfGone":      {with(person("x"), "email", "gone@example.org"), `{"email":["user with this email address already exists."]}`},
			"BothTaken":        {with(person("alice"), "email", "gone@example.org"), `{"username":["user with this username already exists."],"email":["user with this email address already exists."]}`},
			"NoFirstname":      {with(person("x"), "firstname", nil), `{"error":"Basic info fields must be strings"}`},
			"NoObjectInside":   {with(person("x"), "email", []string{"a"}), `{"error":"Basic info fields must be strings"}`},
			"SignsInTheName":   {with(person("x"), "firstname", "A;DROP"), "{\"error\":\"Invalid firstname/lastname: may contain only letters and `'-`\"}"},
			"LineInTheName":    {with(person("x"), "lastname", "B\n"), "{\"error\":\"Invalid firstname/lastname: may contain only letters and `'-`\"}"},
			"NoEmail":          {with(person("x"), "email", "x-at-example.org"), "{\"error\":\"Invalid email address x-at-example.org: may be only alphanumeric or contain `@_-.`\"}"},
			"PasswordNull":     {with(person("x"), "password", nil), `{"password":["This field may not be null."]}`},
			"PasswordEmpty":    {with(person("x"), "password", ""), `{"password":["This field may not be blank."]}`},
			"PasswordOfAList":  {with(person("x"), "password", []int{1}), `{"password":["Not a valid string."]}`},
			"NothingAtAll":     {map[string]any{}, `{"error":"Basic info fields must be strings"}`},
			"NoObject":         {[]int{1}, `{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}`},
			"EmailOfTwoDots":   {with(person("x"), "email", "a..b@c.de"), `{"email":["Enter a valid email address."]}`},
			"UsernameWithZero": {with(person("x"), "username", "x\x00"), `{"username":["Null characters are not allowed."]}`},
		} {
			t.Run(name, func(t *testing.T) { ulla.For(t).POST("/users/", tt.body).Status(400).Is(tt.want) })
		}
		ulla.GET("/users/x/").Status(404).Is(`{"detail":"No User matches the given query."}`)
		b.by(t, "alice").POST("/users/", person("x")).Status(403).Is(`{"detail":"You do not have permission to perform this action."}`)
		b.For(t).POST("/users/", person("x")).Status(403).Is(nobody)
	})
	t.Cleanup(func() { require.Len(t, created, 8) })
}

func TestCreateTheSameUserTwiceAtOnce(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, b bundle) {
		var mu sync.Mutex
		errs := map[bool]int{}
		atOnce(6, func(int) {
			_, err := b.users.Create(context.Background(), identity.Caller{Username: "ulla"}, person("twice"))
			mu.Lock()
			defer mu.Unlock()
			errs[err == nil]++
			if err != nil {
				require.Contains(t, err.Error(), "already exists")
			}
		})
		require.Equal(t, map[bool]int{true: 1, false: 5}, errs)
	})
}

func TestChangeUser(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, b bundle) {
		ulla := b.by(t, "ulla")
		ulla.PATCH("/users/alice/", map[string]any{"email": "new@example.org", "username": "other", "whatever": 1}).Status(200).
			Is(`{"username":"alice","firstname":"Alice","lastname":"MARTIN","email":"new@example.org","display_name":"Alice MARTIN (alice)","created_by":"Ada ADMIN (admin)","updated_by":"Ulla ROUX (ulla)"}`)
		ulla.GET("/users/other/").Status(404)
		ulla.PATCH("/users/alice/", map[string]any{"email": "new@example.org"}).Status(200) // one's own is not taken
		ulla.PATCH("/users/alice/", map[string]any{"firstname": "", "lastname": nil, "email": nil}).Status(200)
		alice := ulla.GET("/users/alice/").Object()
		require.Equal(t, []any{"", nil, nil, " None (alice)"}, []any{alice["firstname"], alice["lastname"], alice["email"], alice["display_name"]})

		ulla.PATCH("/users/alice/", map[string]any{"password": "new one"}).Status(200)
		require.Regexp(t, `^\$argon2id\$`, b.password(t, "alice"))
		b.login(t, "alice", "new one").Status(200)
		b.login(t, "alice", "alice").Status(401)
		for field, tt := range map[string][2]any{
			"email": {"gone@example.org", `{"email":["user with this email address already exists."]}`}, "firstname": {true, `{"firstname":["Not a valid string."]}`},
			"lastname": {map[string]any{"a": "b"}, `{"lastname":["Not a valid string."]}`}, "password": {nil, `{"password":["This field may not be null."]}`},
		} {
			ulla.PATCH("/users/alice/", map[string]any{field: tt[0]}).Status(400).Is(tt[1].(string))
		}
		for value, want := range map[any]string{"": `{"email":["This field may not be blank."]}`, "no-address": `{"email":["Enter a valid email address."]}`, 5: `{"email":["Enter a valid email address."]}`} {
			ulla.PATCH("/users/alice/", map[string]any{"email": value}).Status(400).Is(want)
		}
		ulla.PATCH("/users/alice/", []string{"firstname"}).Status(400)
		ulla.PATCH("/users/nobody/", map[string]any{"firstname": 5}).Status(404).Is(`{"detail":"No User matches the given query."}`)
		ulla.PATCH("/users/gone/", map[string]any{"firstname": "x"}).Status(404)
		b.by(t, "alice").PATCH("/users/alice/", map[string]any{"firstname": "x"}).Status(403)

		for _, method := range []string{"DELETE", "PUT", "HEAD", "OPTIONS"} {
			for _, path := range []string{"/users/", "/users/alice/", "/users/alice/check/"} {
				b.by(t, "admin").JSON(method, path, nil).Status(403)
			}
		}
		b.by(t, "admin").POST("/users/alice/", nil).Status(405)
		ulla.GET("/users/alice/").Status(200)
	})
}

func TestListUsers(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, b bundle) {
		access := func(username, source string, active bool, from, to time.Duration) {
			require.NoError(t, b.db.Update(t.Context(), func(tx *database.Tx) error {
				if err := tx.Exec("INSERT INTO accesses_profile (source, is_active, user_id) VALUES (?, ?, ?)", source, active, username).Error; err != nil {
					return err
				}
				return tx.Exec("INSERT INTO accesses_access (profile_id, start_datetime, end_datetime) VALUES ((SELECT MAX(id) FROM accesses_profile), ?, ?)", noon.Add(from), noon.Add(to)).Error
			}))
		}
		access("alice", "Manual", true, -time.Hour, time.Hour)
		access("alice", "Manual", true, -time.Hour, time.Hour)
		access("nora", "ORBIS", false, -time.Hour, time.Hour)
		access("ulla", "Manual", true, time.Hour, 2*time.Hour)
		names := func(query string) (list []string) {
			t.Helper()
			for _, u := range b.by(t, "nora").GET("/users/?" + query).Status(200).Results() {
				list = append(list, u["username"].(string))
			}
			return list
		}
		for query, want := range map[string][]string{
			"":                                 {"admin", "alice", "nora", "query_executor", "ulla"},
			"username=LIC":                     {"alice"},
			"username=%20alice%20&firstname=":  {"alice"},
			"lastname=u":                       {"ulla"},
			"email=@example":                   {"alice"},
			"email=_":                          nil,
			"search=lic,martin":                {"alice"},
			"search=lic+nothing":               nil,
			"search=.*":                        nil,
			"search=%FF":                       nil,
			"username=%FF":                     nil,
			"with_access=true":                 {"alice"},
			"with_access=True&manual_only=1":   {"alice"},
			"manual_only=true":                 {"alice", "ulla"},
			"with_access=false&username=alice": {"alice"},
			"ordering=-firstname":              {"query_executor", "ulla", "nora", "alice", "admin"},
			"ordering=created_by,-username":    {"alice", "ulla", "query_executor", "nora", "admin"},
			"page=last":                        {"admin", "alice", "nora", "query_executor", "ulla"},
		} {
			require.Equal(t, want, names(query), query)
		}
		nora := b.by(t, "nora")
		for query, status := range map[string]int{"manual_only=maybe": 400, "with_access=abc": 400, "ordering=password": 400, "page=2": 404, "search=%00": 400} {
			nora.GET("/users/?" + query).Status(status)
		}
		nora.GET("/users/nora/?with_access=true").Status(404)
		nora.GET("/users/alice/?with_access=true&manual_only=true").Status(200)
		nora.GET("/users/gone/").Status(404)
		nora.GET("/users/%00/").Status(404)
		nora.GET("/users/%FF/").Status(404)
		b.For(t).GET("/users/").Status(403).Is(nobody)
		queries := func() { nora.GET("/users/?ordering=created_by").Status(200) }
		require.Equal(t, 3, databasetest.Count(t, b.db, queries), "the caller, the count, the page")
	})
}

type people struct{ err error }

func (p people) Find(_ context.Context, username string) (identity.Person, bool, error) {
	return identity.Person{Username: username, Firstname: "Jeanne", Lastname: "DARC", Email: "j@example.org"}, username == "7", p.err
}

func TestCheckUser(t *testing.T) {
	t.Parallel()
	b := sqlite(t, func(c *config) { c.users.People = people{} })
	nora := b.by(t, "nora")
	nora.GET("/users/alice/check/").Status(200).Is(`{"username":"alice","firstname":"Alice","lastname":"MARTIN","email":"alice@example.org","already_exists":true,"found":false}`)
	nora.GET("/users/7/check/").Status(200).Is(`{"username":"7","firstname":"Jeanne","lastname":"DARC","email":"j@example.org","already_exists":false,"found":true}`)
	nora.GET("/users/8/check/").Status(404).Is(`{"message":"User not found"}`)
	nora.GET("/users/!@$%25%5E&*()/check/").Status(400).Is(`{"message":"Invalid username format"}`)
	b.GET("/users/alice/check/").Status(403)
	without := sqlite(t, nil)
	without.by(t, "nora").GET("/users/7/check/").Status(404).Is(`{"message":"User not found"}`)
	broken := sqlite(t, func(c *config) { c.users.People = people{err: errors.New("out of order")} })
	broken.by(t, "nora").GET("/users/7/check/").Status(500)
}

func TestUsersRefuseBadExpressions(t *testing.T) {
	t.Parallel()
	_, err := identity.NewUsers(identity.UsersConfig{UsernameRegex: "("})
	require.ErrorContains(t, err, "USERNAME_REGEX")
	_, err = identity.NewUsers(identity.UsersConfig{EmailRegex: "("})
	require.ErrorContains(t, err, "EMAIL_REGEX")
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	each(t, nil, func(t *testing.T, b bundle) {
		for _, want := range []bool{true, false} {
			require.NoError(t, b.db.Update(t.Context(), func(tx *database.Tx) error {
				made, err := b.users.Ensure(t.Context(), tx, identity.NewUser{Username: "system", Firstname: "System", Lastname: "SYSTEM", Password: new("x")})
				require.Equal(t, want, made)
				return err
			}))
		}
		require.Regexp(t, `^\$argon2id\$`, b.password(t, "system"))
	})
}
