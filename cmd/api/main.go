// Command api serves REST, callbacks, the websocket and the documentation. Configuration: the environment (see .env.example).
package main

import (
	"os"

	"cohortflow/internal/app"
)

func main() {
	app.Main(func() error { return app.Run("api", app.Roles{API: true}, os.Stderr) })
}
