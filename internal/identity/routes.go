package identity

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/web"
)

// UserView is a user as every endpoint shows one (system.md 5.1); the two last are display names.
type UserView struct {
	Username    string  `json:"username"`
	Firstname   *string `json:"firstname"`
	Lastname    *string `json:"lastname"`
	Email       *string `json:"email"`
	DisplayName string  `json:"display_name"`
	CreatedBy   *string `json:"created_by"`
	UpdatedBy   *string `json:"updated_by"`
}

func viewOf(u User, createdBy, updatedBy *string) UserView {
	return UserView{Username: u.Username, Firstname: u.Firstname, Lastname: u.Lastname, Email: u.Email, DisplayName: u.DisplayName(), CreatedBy: createdBy, UpdatedBy: updatedBy}
}

type loginBody struct {
	Username    string `json:"username,omitempty"`
	Password    string `json:"password,omitempty"`
	AuthCode    string `json:"auth_code,omitempty"`
	RedirectURI string `json:"redirect_uri,omitempty"`
	// CodeVerifier is passed on to the identity provider, for clients that use PKCE.
	CodeVerifier string `json:"code_verifier,omitempty"`
}

type loginView struct {
	User      UserView   `json:"user"`
	LastLogin web.Millis `json:"last_login"`
	Pair
}

type refreshBody struct {
	RefreshToken string `json:"refresh_token"`
}

type routes struct{ service *Service }

// Table is signing in and out (contract: system.md 3.6, 3.7).
func (s *Service) Table() web.Table {
	r := routes{s}
	return web.Table{
		{Method: "POST", Path: "/auth/login/", Summary: "Sign in by password or by the code of an identity provider", Tag: "auth",
			Body: loginBody{}, Out: loginView{}, For: web.NoAuth, View: "admin_cohort.views.auth.LoginView", Action: "post", Do: r.login},
		{Method: "POST", Path: "/auth/refresh/", Summary: "Exchange a refresh token for a new pair", Tag: "auth",
			Body: refreshBody{}, Out: Pair{}, For: web.NoAuth, Do: r.refresh}, // the refresh token is the credential
		{Method: "POST", Path: "/auth/logout/", Summary: "Sign out", Tag: "auth",
			Body: refreshBody{}, Out: struct{}{}, For: web.AnyUser, First: expireCookies, Do: r.logout},
	}
}

func (r routes) login(c *gin.Context) error {
	body, err := web.Body(c)
	if err != nil {
		return err
	}
	var login Login
	switch method := Method(c); method {
	case "JWT":
		f := web.FieldsOf(body, false)
		username, password := f.String("username", web.Required), f.String("password", web.Required)
		if err := f.Err(); err != nil {
			return err
		}
		login, err = r.service.ByPassword(c.Request.Context(), username.Value, password.Value)
	case "OIDC":
		for _, key := range []string{"auth_code", "redirect_uri"} {
			if _, there := body[key]; !there {
				return unauthorized("Missing `'" + key + "'`")
			}
		}
		code, _ := body["auth_code"].(string)
		uri, _ := body["redirect_uri"].(string)
		verifier, _ := body["code_verifier"].(string)
		login, err = r.service.ByCode(c.Request.Context(), code, uri, verifier)
	default:
		err = unknownMethod(method)
	}
	if err != nil {
		Remember(c, Caller{RealUsername: login.User.Username})
		return err
	}
	// The request log tells who signed in, not that nobody did.
	Remember(c, Caller{Username: login.User.Username, RealUsername: login.User.Username, DisplayName: login.User.DisplayName()})
	web.JSON(c, http.StatusOK, loginView{
		User: viewOf(login.User, login.CreatedBy, login.UpdatedBy), LastLogin: web.Millis(login.At), Pair: login.Pair})
	return nil
}

func (r routes) refresh(c *gin.Context) error {
	body, err := web.Body(c)
	if err != nil {
		return err
	}
	token, isText := body["refresh_token"].(string)
	if !isText || token == "" {
		return badRequest("`refresh_token` is required")
	}
	pair, err := r.service.Refresh(c.Request.Context(), Method(c), token)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, pair)
	return nil
}

// expireCookies ends the cookies that browsers of existing users still hold, whatever becomes of the rest (system.md 2.12).
func expireCookies(c *gin.Context) {
	for _, name := range []string{"csrftoken", "sessionid"} {
		http.SetCookie(c.Writer, &http.Cookie{Name: name, Path: "/", MaxAge: -1, SameSite: http.SameSiteLaxMode})
	}
}

func (r routes) logout(c *gin.Context) error {
	body, err := web.Body(c)
	if err != nil {
		return err
	}
	refresh, _ := body["refresh_token"].(string)
	access := ""
	if parts := strings.Fields(c.GetHeader("Authorization")); len(parts) == 2 {
		access = parts[1]
	}
	if err := r.service.Logout(c.Request.Context(), Method(c), access, refresh); err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, struct{}{})
	return nil
}
