/* An upstream that answers every POST as the Claude API would, or Google's, and costs next to nothing.
 *
 *     upstream PORT EVENTS GAP_US [SILENT_AFTER]
 *
 * A body with "stream":true gets a stream: message_start, EVENTS text deltas, message_stop. GAP_US 0 sends it in one
 * write; otherwise each event is a write of its own, GAP_US after the one before. With SILENT_AFTER a stream falls
 * silent after so many deltas and stays open. Any other body gets a whole answer. Loopback only.
 *
 * A target with ":streamGenerateContent" gets the same text in the same pieces as Google sends it: EVENTS chunks with
 * the figures in each, and one that ends them. One with ":generateContent" gets a whole answer of Google's.
 */
#include "common.h"

#define TEXT "aaaaaaaa"

#define STREAM_HEAD                                                                                                    \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nrequest-id: req_bench\r\n"       \
    "Transfer-Encoding: chunked\r\n\r\n"
#define STREAM_END "0\r\n\r\n"
#define MESSAGE_START                                                                                                  \
    "event: message_start\n"                                                                                           \
    "data: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_01bench\",\"type\":\"message\","                      \
    "\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\"stop_reason\":null,"                      \
    "\"stop_sequence\":null,\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n"                                 \
    "event: content_block_start\n"                                                                                     \
    "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
#define DELTA                                                                                                          \
    "event: content_block_delta\n"                                                                                     \
    "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"" TEXT          \
    "\"}}\n\n"
#define MESSAGE_STOP                                                                                                   \
    "event: content_block_stop\n"                                                                                      \
    "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n"                                                          \
    "event: message_delta\n"                                                                                           \
    "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},"               \
    "\"usage\":{\"output_tokens\":50}}\n\n"                                                                            \
    "event: message_stop\n"                                                                                            \
    "data: {\"type\":\"message_stop\"}\n\n"
#define MESSAGE                                                                                                        \
    "{\"id\":\"msg_01bench\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\","             \
    "\"content\":[{\"type\":\"text\",\"text\":\"" TEXT "\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,"     \
    "\"usage\":{\"input_tokens\":25,\"output_tokens\":50}}"

#define GEMINI_FIGURES                                                                                                 \
    "\"usageMetadata\":{\"promptTokenCount\":25,\"candidatesTokenCount\":50,\"totalTokenCount\":75,"                     \
    "\"promptTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":25}]},\"modelVersion\":\"gemini-2.5-flash\","        \
    "\"responseId\":\"ZmFrZSByZXNwb25zZSBpZA\"}"
#define GEMINI_DELTA                                                                                                   \
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"" TEXT "\"}],\"role\":\"model\"},\"index\":0}],"        \
    GEMINI_FIGURES "\r\n\r\n"
#define GEMINI_STOP                                                                                                    \
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\"model\"},\"finishReason\":\"STOP\","      \
    "\"index\":0}]," GEMINI_FIGURES "\r\n\r\n"
#define GEMINI_WHOLE                                                                                                   \
    "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"" TEXT "\"}],\"role\":\"model\"},\"finishReason\":\"STOP\","  \
    "\"index\":0}]," GEMINI_FIGURES

/* What one API says. Of a stream without a start the first delta comes at once. */
struct dialect {
    const char *start, *delta, *stop, *whole;
};

static const struct dialect claude = {MESSAGE_START, DELTA, MESSAGE_STOP, MESSAGE};
static const struct dialect gemini = {NULL, GEMINI_DELTA, GEMINI_STOP, GEMINI_WHOLE};

struct connection {
    int fd;
    bool streaming;
    const struct dialect *dialect;
    int next_event; /* 0: the start, 1 to EVENTS: deltas, then the end */
    uint64_t due;
    struct connection *earlier, *later; /* its place among those that wait for their next event */
    bool waiting;
    char *in;
    size_t in_size, in_room;
    char *out;
    size_t out_size, out_room, out_sent;
};

static int events;
static uint64_t gap;
static int silent_after = -1;
static int poller;
static struct connection *first, *last; /* in the order in which they are due: every wait is as long */

static void wait_for_turn(struct connection *c)
{
    c->waiting = true;
    c->later = NULL;
    c->earlier = last;
    if (last != NULL)
        last->later = c;
    else
        first = c;
    last = c;
}

static void leave_queue(struct connection *c)
{
    if (!c->waiting)
        return;
    c->waiting = false;
    if (c->earlier != NULL)
        c->earlier->later = c->later;
    else
        first = c->later;
    if (c->later != NULL)
        c->later->earlier = c->earlier;
    else
        last = c->earlier;
}

static void close_connection(struct connection *c)
{
    leave_queue(c);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void put(struct connection *c, const char *data, size_t size)
{
    if (c->out_size + size > c->out_room) {
        c->out_room = (c->out_size + size) * 2 + 4096;
        c->out = grown(c->out, c->out_room);
    }
    memcpy(c->out + c->out_size, data, size);
    c->out_size += size;
}

static void put_chunk(struct connection *c, const char *data)
{
    size_t size = strlen(data);
    char line[32];

    put(c, line, sprintf(line, "%zx\r\n", size));
    put(c, data, size);
    put(c, "\r\n", 2);
}

static void put_event(struct connection *c, int number)
{
    if (number == 0)
        put_chunk(c, c->dialect->start);
    else if (number <= events)
        put_chunk(c, c->dialect->delta);
    else
        put_chunk(c, c->dialect->stop);
}

/* Send what waits; false when the connection is lost. */
static bool flush(struct connection *c)
{
    while (c->out_sent < c->out_size) {
        ssize_t sent = send(c->fd, c->out + c->out_sent, c->out_size - c->out_sent, MSG_NOSIGNAL);

        if (sent < 0) {
            if (errno != EAGAIN)
                return false;
            watch(poller, EPOLL_CTL_MOD, c->fd, EPOLLIN | EPOLLOUT, c);
            return true;
        }
        c->out_sent += sent;
    }
    c->out_size = c->out_sent = 0;
    watch(poller, EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
    return true;
}

static void answer_whole(struct connection *c, const char *status, const char *body)
{
    char head[256];

    put(c, head,
        sprintf(head,
                "HTTP/1.1 %s\r\nContent-Type: application/json\r\nrequest-id: req_bench\r\n"
                "Content-Length: %zu\r\n\r\n",
                status, strlen(body)));
    put(c, body, strlen(body));
}

static void answer_stream(struct connection *c)
{
    int number = c->dialect->start != NULL ? 0 : 1;

    put(c, STREAM_HEAD, strlen(STREAM_HEAD));
    if (gap == 0) {
        while (number <= events + 1)
            put_event(c, number++);
        put(c, STREAM_END, strlen(STREAM_END));
        return;
    }
    c->streaming = true;
    put_event(c, number);
    c->next_event = number + 1;
    c->due = now_us() + gap;
    wait_for_turn(c);
}

/* Answer each request that is whole; false when the connection is lost. */
static bool answer_requests(struct connection *c)
{
    while (!c->streaming) {
        char *end = memmem(c->in, c->in_size, "\r\n\r\n", 4);

        if (end == NULL)
            return true;
        *end = 0;
        char *length = strcasestr(c->in, "\r\ncontent-length:");
        size_t head = end + 4 - c->in;
        size_t body = length != NULL ? strtoul(length + strlen("\r\ncontent-length:"), NULL, 10) : 0;

        *end = '\r';
        if (c->in_size < head + body)
            return true;
        bool streamed = memmem(c->in, head, ":streamGenerateContent", 22) != NULL;

        c->dialect = streamed || memmem(c->in, head, ":generateContent", 16) != NULL ? &gemini : &claude;
        if (body == 0)
            answer_whole(c, "411 Length Required", "{}");
        else if (streamed || memmem(c->in + head, body, "\"stream\":true", 13) != NULL)
            answer_stream(c);
        else
            answer_whole(c, "200 OK", c->dialect->whole);
        c->in_size -= head + body;
        memmove(c->in, c->in + head + body, c->in_size);
        if (!flush(c))
            return false;
    }
    return true;
}

/* The next event of a stream that is due; false when the connection is lost. */
static bool continue_stream(struct connection *c, uint64_t now)
{
    put_event(c, c->next_event);
    if (c->next_event == silent_after)
        return flush(c);
    if (++c->next_event <= events + 1) {
        c->due = c->due + gap > now ? c->due + gap : now + gap;
        wait_for_turn(c);
        return flush(c);
    }
    put(c, STREAM_END, strlen(STREAM_END));
    c->streaming = false;
    return flush(c) && answer_requests(c);
}

static bool read_requests(struct connection *c)
{
    for (;;) {
        if (c->in_size + 16384 > c->in_room) {
            c->in_room = c->in_room * 2 + 32768;
            c->in = grown(c->in, c->in_room);
        }
        ssize_t got = recv(c->fd, c->in + c->in_size, c->in_room - c->in_size, 0);

        if (got > 0)
            c->in_size += got;
        else if (got < 0 && errno == EAGAIN)
            return answer_requests(c);
        else
            return false;
    }
}

static void accept_all(int listener)
{
    int fd;

    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);

        if (c == NULL)
            die("calloc");
        prepare_socket(fd);
        c->fd = fd;
        watch(poller, EPOLL_CTL_ADD, fd, EPOLLIN, c);
    }
}

static int listen_on(int port)
{
    struct sockaddr_in address = loopback(port);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0)
        die("upstream: cannot listen");
    prepare_socket(fd);
    return fd;
}

/* Milliseconds until the next event is due, rounded up; -1 when none is. */
static int until_next(void)
{
    uint64_t now = now_us();

    if (first == NULL)
        return -1;
    return first->due <= now ? 0 : (int)((first->due - now + 999) / 1000);
}

int main(int argc, char **argv)
{
    static struct epoll_event ready[1024];

    if (argc < 4) {
        fprintf(stderr, "usage: upstream PORT EVENTS GAP_US [SILENT_AFTER]\n");
        return 2;
    }
    events = atoi(argv[2]);
    gap = strtoull(argv[3], NULL, 10);
    if (argc > 4)
        silent_after = atoi(argv[4]);
    raise_file_limit();
    poller = epoll_create1(0);
    int listener = listen_on(atoi(argv[1]));

    watch(poller, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    for (;;) {
        int n = epoll_wait(poller, ready, 1024, until_next());

        for (int i = 0; i < n; i++) {
            struct connection *c = ready[i].data.ptr;
            uint32_t what = ready[i].events;

            if (c == NULL)
                accept_all(listener);
            else if ((what & (EPOLLERR | EPOLLHUP)) || ((what & EPOLLOUT) && !flush(c)) ||
                     ((what & EPOLLIN) && !read_requests(c)))
                close_connection(c);
        }
        for (uint64_t now = now_us(); first != NULL && first->due <= now;) {
            struct connection *c = first;

            leave_queue(c);
            if (!continue_stream(c, now))
                close_connection(c);
        }
    }
}
