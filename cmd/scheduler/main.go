// Command scheduler owes the tasks of all schedules. Configuration: the environment (see .env.example).
package main

import (
	"os"

	"cohortflow/internal/app"
)

func main() {
	app.Main(func() error { return app.Run("scheduler", app.Roles{Scheduler: true}, os.Stderr) })
}
