// Tries to reach what no module may reach, and says what came of it: `NAME: refused` or `NAME = VALUE`.

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "analyzer.h"

extern char **environ;

static void say(const char *line) {
  analyzer_string_t message;
  analyzer_string_set(&message, line);
  gantry_imaging_log_write(GANTRY_IMAGING_LOG_LEVEL_INFO, &message);
}

static void tell(const char *what, long long value) {
  char line[128];
  snprintf(line, sizeof line, "%s = %lld", what, value);
  say(line);
}

static void file(const char *what, const char *path, const char *mode) {
  char line[128];
  snprintf(line, sizeof line, fopen(path, mode) ? "%s = open" : "%s: refused", what);
  say(line);
}

bool exports_analyzer_analyze(analyzer_string_t *error) {
  (void)error;
  file("read", "/etc/passwd", "r");
  file("relative", "module.toml", "r");
  file("write", "/tmp/probe", "w");
  say(opendir("/") ? "list = open" : "list: refused");
  say(getcwd((char[64]){0}, 64) && chdir("/tmp") == 0 ? "folder = changed" : "folder: refused");

  long long variables = 0;
  while (environ && environ[variables])
    variables++;
  tell("variables", variables);
  tell("home", getenv("HOME") != NULL);
  tell("input", getchar());

  struct timespec now = {-1, -1};
  tell("clock failed", clock_gettime(CLOCK_REALTIME, &now));
  tell("seconds", now.tv_sec);
  struct timespec start = {-1, -1}, end = {-1, -1}, wait = {3600, 0};
  clock_gettime(CLOCK_MONOTONIC, &start);
  nanosleep(&wait, NULL);
  for (volatile int i = 0; i < 10000000; i++) {
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  tell("passed", (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec);

  unsigned long long bytes = 0;
  tell("random failed", getentropy(&bytes, sizeof bytes));
  tell("random", (long long)bytes);

  printf("printed\n");
  fprintf(stderr, "complained\n");
  fflush(stdout);
  return true;
}
