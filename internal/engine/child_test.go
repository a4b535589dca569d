package engine_test

const childVariable = "COHORTFLOW_ENGINE_TEST_CHILD"

func childWorker() int { return 0 }
