/* The only program in the image of the tests: runs a line of small commands, separated by `;`.
   It is /probe, and /bin/sh for what is run by a shell. Static, so that the image needs nothing else. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_term(int signal) {
    printf("told by %d\n", signal);
    fflush(stdout);
    _exit(0);
}

/* Answers each connection with `text`. */
static void serve(int port, const char *text) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) {
        perror("serve");
        exit(98);
    }
    for (;;) {
        int client = accept(listener, 0, 0);
        if (write(client, text, strlen(text)) < 0) perror("write");
        close(client);
    }
}

static void eat(void) {
    for (;;) {
        char *block = malloc(1 << 20);
        if (block) memset(block, 1, 1 << 20);
    }
}

static void step(char *line) {
    while (*line == ' ') line++;
    char *rest = strchr(line, ' ');
    if (rest) *rest++ = 0; else rest = "";
    if (!strcmp(line, "echo")) printf("%s\n", rest);
    else if (!strcmp(line, "err")) fprintf(stderr, "%s\n", rest);
    else if (!strcmp(line, "env")) printf("%s=%s\n", rest, getenv(rest) ? getenv(rest) : "(none)");
    else if (!strcmp(line, "uid")) printf("uid %d\n", (int)getuid());
    else if (!strcmp(line, "can-write")) printf("%s\n", access(rest, W_OK) ? "no" : "yes");
    else if (!strcmp(line, "sleep")) usleep(atof(rest) * 1e6);
    else if (!strcmp(line, "exit")) exit(atoi(rest));
    else if (!strcmp(line, "serve")) serve(atoi(getenv("PORT0")), rest);
    else if (!strcmp(line, "eat")) eat();
    else if (!strcmp(line, "wait")) { signal(SIGTERM, on_term); signal(SIGINT, on_term); for (;;) pause(); }
    else if (!strcmp(line, "hang")) { signal(SIGTERM, SIG_IGN); for (;;) pause(); }
    else { fprintf(stderr, "what is `%s`?\n", line); exit(97); }
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc < 2) return 96;
    for (char *line = strtok(argv[argc - 1], ";"); line;) {
        char *next = strtok(0, ";");
        step(line);
        line = next;
    }
    return 0;
}
