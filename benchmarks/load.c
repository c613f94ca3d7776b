/* A closed-loop load generator: each connection sends its next request when the answer before is whole.
 *
 *     load PORT BODY_FILE CONNECTIONS SECONDS HEADER ...
 *
 * POSTs the body to /v1/messages of 127.0.0.1:PORT. The headers are alternatives: one request has the first, the next
 * request the second, and so on in turn. Prints one line of JSON when the time is over:
 *
 *     seconds, done     how long it took, and answers that came whole within it
 *     events            "data:" lines received
 *     errors            connections refused or lost, and answers without a length
 *     non200            answers with another status
 *     incomplete        event streams that ended without message_stop
 *     first_byte_us     from the request's first byte to the first byte of the answer's body: p50, p90, p99, max
 *     whole_us          the same, to the answer's last byte
 */
#include "common.h"

#define MOST_TIMES 4000000
#define CARRIED 12 /* bytes of the read before that may begin what a read completes */

struct request {
    char *bytes;
    size_t size;
};

struct connection {
    int fd;
    bool connected;
    const struct request *request;
    size_t sent;
    uint64_t started, first_byte; /* microseconds; first_byte 0: not yet */

    char head[8192]; /* of the answer, as far as it has come */
    size_t head_size;
    bool head_done, chunked, stream, stopped, closing;
    size_t body_left; /* of an answer with a length */
    char carry[CARRIED];
    size_t carried;
};

struct times {
    uint64_t *values;
    size_t count;
};

static struct request *requests;
static size_t request_count, next_request;
static struct sockaddr_in address;
static int poller;
static struct times first_byte, whole;
static unsigned long events, errors, non200, incomplete;

/* -- requests */

static struct request make_request(int port, const char *header, const char *body, size_t size)
{
    struct request made = {.bytes = grown(NULL, size + strlen(header) + 512)};

    made.size = sprintf(made.bytes,
                        "POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                        "Accept: */*\r\nanthropic-version: 2023-06-01\r\nContent-Length: %zu\r\n%s\r\n\r\n",
                        port, size, header);
    memcpy(made.bytes + made.size, body, size);
    made.size += size;
    return made;
}

/* Send what is left of the request; false when the connection is lost. */
static bool send_request(struct connection *c)
{
    while (c->sent < c->request->size) {
        ssize_t sent = send(c->fd, c->request->bytes + c->sent, c->request->size - c->sent, MSG_NOSIGNAL);

        if (sent < 0) {
            if (errno != EAGAIN)
                return false;
            watch(poller, EPOLL_CTL_MOD, c->fd, EPOLLIN | EPOLLOUT, c);
            return true;
        }
        c->sent += sent;
    }
    return true;
}

static bool begin_request(struct connection *c)
{
    c->request = &requests[next_request++ % request_count];
    c->sent = 0;
    c->started = now_us();
    c->first_byte = 0;
    c->head_size = c->carried = 0;
    c->head_done = c->stopped = false;
    return send_request(c);
}

static void begin_connection(struct connection *c)
{
    memset(c, 0, sizeof *c);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0)
        die("socket");
    prepare_socket(c->fd);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS)
        die("connect");
    watch(poller, EPOLL_CTL_ADD, c->fd, EPOLLIN | EPOLLOUT, c);
}

/* -- answers */

enum progress { MORE, WHOLE, BROKEN };

static unsigned long count(const char *data, size_t size, const char *what)
{
    unsigned long found = 0;
    const char *end = data + size, *at = data;

    while ((at = memmem(at, end - at, what, strlen(what))) != NULL) {
        found++;
        at += strlen(what);
    }
    return found;
}

/* The part of data's last bytes with which an occurrence of what may begin, or all of it where that is shorter. */
static const char *from(const char *data, size_t carried, const char *what)
{
    size_t back = strlen(what) - 1;

    return data - (carried < back ? carried : back);
}

/* Bytes of a body. What was carried over from the read before stands just ahead of data. */
static enum progress take_body(struct connection *c, const char *data, size_t size)
{
    const char *end = data + size, *start;

    if (size == 0)
        return !c->chunked && c->body_left == 0 ? WHOLE : MORE;
    if (c->first_byte == 0)
        c->first_byte = now_us();
    if (!c->chunked) {
        if (size > c->body_left)
            return BROKEN;
        c->body_left -= size;
        return c->body_left == 0 ? WHOLE : MORE;
    }
    start = from(data, c->carried, "data:");
    events += count(start, end - start, "data:");
    start = from(data, c->carried, "message_stop");
    c->stopped = c->stopped || memmem(start, end - start, "message_stop", 12) != NULL;
    if (c->carried + size >= 7 && memcmp(end - 7, "\r\n0\r\n\r\n", 7) == 0) {
        if (c->stream && !c->stopped)
            incomplete++;
        return WHOLE;
    }
    size_t keep = c->carried + size < CARRIED ? c->carried + size : CARRIED;

    memcpy(c->carry, end - keep, keep);
    c->carried = keep;
    return MORE;
}

/* Bytes of an answer, which begin with its head. */
static enum progress take(struct connection *c, const char *data, size_t size)
{
    if (c->head_done)
        return take_body(c, data, size);

    size_t before = c->head_size, room = sizeof c->head - 1 - before, taken = size < room ? size : room;

    memcpy(c->head + before, data, taken);
    c->head_size += taken;
    c->head[c->head_size] = 0;
    char *end = strstr(c->head, "\r\n\r\n");

    if (end == NULL)
        return taken < room ? MORE : BROKEN;
    end[2] = 0;
    c->head_done = true;
    if (strncmp(c->head, "HTTP/1.1 200", 12) != 0)
        non200++;
    char *length = strcasestr(c->head, "\r\ncontent-length:");

    c->chunked = strcasestr(c->head, "\r\ntransfer-encoding: chunked") != NULL;
    c->stream = strcasestr(c->head, "\r\ncontent-type: text/event-stream") != NULL;
    c->closing = strcasestr(c->head, "\r\nconnection: close") != NULL;
    c->body_left = length != NULL ? strtoul(length + strlen("\r\ncontent-length:"), NULL, 10) : 0;
    if (!c->chunked && length == NULL)
        return BROKEN;
    size_t used = end + 4 - c->head - before;

    return take_body(c, data + used, size - used);
}

static void note_times(const struct connection *c)
{
    uint64_t now = now_us();

    if (whole.count == MOST_TIMES)
        return;
    first_byte.values[first_byte.count++] = (c->first_byte != 0 ? c->first_byte : now) - c->started;
    whole.values[whole.count++] = now - c->started;
}

/* Read what is there; false when the connection is lost. */
static bool read_answer(struct connection *c)
{
    static char buffer[CARRIED + (1 << 18)];
    char *data = buffer + CARRIED;
    ssize_t got = recv(c->fd, data, sizeof buffer - CARRIED, 0);

    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    memcpy(data - c->carried, c->carry, c->carried);
    switch (take(c, data, got)) {
    case MORE:
        return true;
    case BROKEN:
        return false;
    case WHOLE:
        break;
    }
    note_times(c);
    if (c->closing) {
        close(c->fd);
        begin_connection(c);
        return true;
    }
    return begin_request(c);
}

/* False when the connection is lost. */
static bool serve(struct connection *c, uint32_t what)
{
    if (what & EPOLLERR)
        return false;
    if (what & EPOLLOUT) {
        watch(poller, EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
        bool fresh = !c->connected;

        c->connected = true;
        if (!(fresh ? begin_request(c) : send_request(c)))
            return false;
    }
    return !(what & EPOLLIN) || read_answer(c);
}

/* -- the whole */

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void print_times(const char *name, struct times *times)
{
    static const struct {
        const char *name;
        double part;
    } points[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"max", 1.0}};

    qsort(times->values, times->count, sizeof *times->values, compare);
    printf(", \"%s\": {", name);
    for (int i = 0; i < 4; i++) {
        uint64_t value = times->count ? times->values[(size_t)((times->count - 1) * points[i].part)] : 0;

        printf("%s\"%s\": %llu", i ? ", " : "", points[i].name, (unsigned long long)value);
    }
    printf("}");
}

static char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    char *data = grown(NULL, 1 << 22);

    if (file == NULL)
        die(path);
    *size = fread(data, 1, 1 << 22, file);
    fclose(file);
    return data;
}

int main(int argc, char **argv)
{
    static struct epoll_event ready[1024];

    if (argc < 6) {
        fprintf(stderr, "usage: load PORT BODY_FILE CONNECTIONS SECONDS HEADER ...\n");
        return 2;
    }
    int port = atoi(argv[1]), connections = atoi(argv[3]);
    size_t size;
    char *body = read_file(argv[2], &size);

    request_count = argc - 5;
    requests = grown(NULL, request_count * sizeof *requests);
    for (size_t i = 0; i < request_count; i++)
        requests[i] = make_request(port, argv[5 + i], body, size);
    first_byte.values = grown(NULL, MOST_TIMES * sizeof(uint64_t));
    whole.values = grown(NULL, MOST_TIMES * sizeof(uint64_t));
    raise_file_limit();
    poller = epoll_create1(0);
    address = loopback(port);

    struct connection *all = grown(NULL, connections * sizeof *all);
    uint64_t start = now_us(), end = start + (uint64_t)(atof(argv[4]) * 1e6);

    for (int i = 0; i < connections; i++)
        begin_connection(&all[i]);
    while (now_us() < end && errors < 100000) {
        int n = epoll_wait(poller, ready, 1024, 100);

        for (int i = 0; i < n; i++) {
            struct connection *c = ready[i].data.ptr;

            if (!serve(c, ready[i].events)) {
                errors++;
                close(c->fd);
                begin_connection(c);
            }
        }
    }
    printf("{\"seconds\": %.3f, \"done\": %zu, \"events\": %lu, \"errors\": %lu, \"non200\": %lu, \"incomplete\": %lu",
           (now_us() - start) / 1e6, whole.count, events, errors, non200, incomplete);
    print_times("first_byte_us", &first_byte);
    print_times("whole_us", &whole);
    printf("}\n");
    return 0;
}
