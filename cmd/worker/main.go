// Command worker runs owed tasks, with the relay and the watchdog. Configuration: the environment (see .env.example).
package main

import (
	"os"

	"cohortflow/internal/app"
)

func main() {
	app.Main(func() error { return app.Run("worker", app.Roles{Worker: true}, os.Stderr) })
}
