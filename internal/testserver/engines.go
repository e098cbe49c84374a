package testserver

import (
	"os"
	"path/filepath"
	"testing"
)

// Python returns the interpreter that has the packages of .ci/requirements.txt:
// $TIDEMILL_TEST_PYTHON, else tools/venv. Without one the test is skipped (see Missing).
func Python(tb testing.TB) string {
	tb.Helper()
	p := os.Getenv("TIDEMILL_TEST_PYTHON")
	if p == "" {
		p = filepath.Join(moduleRoot(tb), "tools", "venv", "bin", "python")
	}
	if _, err := os.Stat(p); err != nil {
		Missing(tb, "no Python with the readers: %v; make it with: python3 -m venv tools/venv && tools/venv/bin/pip install -r .ci/requirements.txt", err)
	}
	return p
}

// SparkJars returns the directory of the jars that pyspark needs for Delta and S3:
// $TIDEMILL_TEST_SPARK, else tools/spark; see .ci/spark/pom.xml. Without them, or without
// Java, the test is skipped.
func SparkJars(tb testing.TB) string {
	tb.Helper()
	Binary(tb, "TIDEMILL_TEST_JAVA", "java", "install a Java 17 runtime")
	dir := os.Getenv("TIDEMILL_TEST_SPARK")
	if dir == "" {
		dir = filepath.Join(moduleRoot(tb), "tools", "spark")
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "delta-spark_*.jar")); len(found) == 0 {
		Missing(tb, "no Spark jars in %s; fetch them with: mvn -f .ci/spark/pom.xml dependency:copy-dependencies -DoutputDirectory=../../tools/spark", dir)
	}
	return dir
}
