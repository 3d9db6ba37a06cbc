/* A canned DynamoDB: answers the hot calls with ready bytes, as fast as a client can take them.
 *
 *   canned --port 0 --template FILE --table NAME:ITEMS:BYTES [--table ...] [--latency-us 5000]
 *          [--partitions 32 --wcu 1000] [--upstream PORT]
 *
 * It prints its port on the first line, and serves until it is ended. One thread a connection, no dependency.
 *
 * A table is ITEMS items, each the template with a number of seven digits (1000000 and up) for every @@@@@@@, of BYTES
 * billed bytes. They lie in the order of their numbers, which stands for the order of their hashes: a scan's segment is
 * a range of it, and so is a partition. Scan, BatchExecuteStatement, BatchWriteItem, PutItem, UpdateItem, GetItem and
 * DescribeTable of these tables are answered here; nothing that is written is kept, and every condition holds.
 * Everything else (other tables, other services) is passed on to 127.0.0.1:UPSTREAM, where a real emulator answers.
 *
 * Every answer, of either kind, is sent LATENCY after its request was whole, or when it is ready, if that is later.
 * A partition takes WCU units a second, and saves up one second's worth at most; a statement or put beyond is refused
 * as the service does: ThrottlingError of that statement, UnprocessedItems, or ProvisionedThroughputExceededException.
 *
 * GET /_canned/stats tells as JSON what was asked since it was last asked for (of these tables only).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FIRST = 1000000, DIGITS = 7, MAX_TABLES = 16, MAX_SPOTS = 32, MAX_PARTITIONS = 4096, PAGE_BYTES = 1 << 20 };

typedef struct { char *data; size_t size, room; } Buffer;
typedef struct { char name[256]; long items, bytes; } Table;
typedef struct { double tokens, at; } Partition;

static Table tables[MAX_TABLES];
static int table_count, upstream_port, partitions;
static double partition_wcu, latency;
static char *template_text;
static size_t template_size, spots[MAX_SPOTS];
static int spot_count;
static Partition buckets[MAX_TABLES][MAX_PARTITIONS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { long requests, scans, batches, statements, puts, updates, throttled, items, bytes_in, bytes_out;
                double rcu, wcu; } stats;

/* ------------------------------------------------------------ buffers */

static void die(const char *what) { perror(what); exit(1); }

static void need(Buffer *b, size_t more) {
    if (b->size + more + 1 <= b->room) return;
    while (b->size + more + 1 > b->room) b->room = b->room ? 2 * b->room : 65536;
    if (!(b->data = realloc(b->data, b->room))) die("realloc");
}

static void add(Buffer *b, const char *text, size_t size) {
    need(b, size);
    memcpy(b->data + b->size, text, size);
    b->data[b->size += size] = 0;
}

static void say(Buffer *b, const char *text) { add(b, text, strlen(text)); }

#define sayf(b, ...) do { char line_[512]; snprintf(line_, sizeof line_, __VA_ARGS__); say(b, line_); } while (0)

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void wait_until(double moment) {
    double left = moment - now();
    if (left <= 0) return;
    struct timespec t = {(time_t)left, (long)((left - (time_t)left) * 1e9)};
    nanosleep(&t, NULL);
}

/* ------------------------------------------------------------ what a request says: no parser, it looks for what it needs */

/* Every client writes its JSON in its own way: with or without a blank after the colon. */
static const char *value_of(const char *text, const char *key) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *at = strstr(text, quoted);
    if (!at) return NULL;
    at += strlen(quoted);
    while (*at == ' ' || *at == ':') at++;
    return at;
}

static long number_of(const char *text, const char *key, long otherwise) {
    const char *at = value_of(text, key);
    return at ? atol(at) : otherwise;
}

/* The number of the next key at or after `text`: `"user-1000017"` as a whole string; NULL: there is none. */
static const char *next_key(const char *text, long *number) {
    while ((text = strstr(text, "\"user-"))) {
        char *end;
        *number = strtol(text + 6, &end, 10) - FIRST;
        if (*end == '"') return end;
        text += 6;
    }
    return NULL;
}

/* Whether the JSON at `at` begins with this name as a string: `"name"`, or `\"name\"` within a statement. */
static int names(const char *at, const char *quote, const char *name) {
    size_t quotes = strlen(quote), size = strlen(name);
    return !strncmp(at, quote, quotes) && !strncmp(at + quotes, name, size) && !strncmp(at + quotes + size, quote, quotes);
}

/* Where a request names its table: as TableName, as the first key of RequestItems, or in its first statement. */
static Table *table_of(const char *operation, const char *body) {
    const char *quote = "\"", *at;
    if (!strncmp(operation, "BatchExecute", 12)) {
        quote = "\\\"";
        at = strstr(body, quote);
    } else if (!strncmp(operation, "Batch", 5)) {
        at = value_of(body, "RequestItems");
        while (at && (*at == '{' || *at == ' ')) at++;
    } else
        at = value_of(body, "TableName");
    for (int i = 0; at && i < table_count; i++)
        if (names(at, quote, tables[i].name)) return &tables[i];
    return NULL;
}

/* ------------------------------------------------------------ partitions */

static int takes(Table *table, long number) {
    long units = (table->bytes + 1023) / 1024;
    int taken = 1;
    pthread_mutex_lock(&lock);
    if (partitions) {
        long which = number * partitions / (table->items ? table->items : 1);
        if (which < 0 || which >= partitions) which = 0;
        Partition *p = &buckets[table - tables][which];
        double t = now();
        p->tokens = p->at ? p->tokens + (t - p->at) * partition_wcu : partition_wcu;
        if (p->tokens > partition_wcu) p->tokens = partition_wcu;
        p->at = t;
        taken = p->tokens >= units;
        if (taken) p->tokens -= units;
    }
    if (taken) stats.wcu += units; else stats.throttled++;
    pthread_mutex_unlock(&lock);
    return taken;
}

static long units_of(Table *table) { return (table->bytes + 1023) / 1024; }

/* ------------------------------------------------------------ answers */

static void add_item(Buffer *out, long number) {
    char digits[32];
    snprintf(digits, sizeof digits, "%07ld", number + FIRST);
    need(out, template_size);
    char *at = out->data + out->size;
    memcpy(at, template_text, template_size);
    for (int i = 0; i < spot_count; i++) memcpy(at + spots[i], digits, DIGITS);
    out->size += template_size;
    out->data[out->size] = 0;
}

static int scan(Table *table, const char *body, Buffer *out) {
    long segment = number_of(body, "Segment", 0), total = number_of(body, "TotalSegments", 1);
    long from = table->items * segment / total, to = table->items * (segment + 1) / total, last;
    const char *start = value_of(body, "ExclusiveStartKey");
    if (start && next_key(start, &last)) from = last + 1;
    long most = PAGE_BYTES / table->bytes, limit = number_of(body, "Limit", most);
    if (limit < most) most = limit;
    long end = to - from > most ? from + most : to;
    say(out, "{\"Items\":[");
    for (long n = from; n < end; n++) {
        if (n > from) say(out, ",");
        add_item(out, n);
    }
    long count = end > from ? end - from : 0;
    double rcu = (count * table->bytes + 4095) / 4096 * (strstr(body, "\"ConsistentRead\":true") ? 1.0 : 0.5);
    sayf(out, "],\"Count\":%ld,\"ScannedCount\":%ld", count, count);
    sayf(out, ",\"ConsumedCapacity\":{\"TableName\":\"%s\",\"CapacityUnits\":%.1f}", table->name, rcu);
    if (end < to || (count && count == limit)) sayf(out, ",\"LastEvaluatedKey\":{\"id\":{\"S\":\"user-%07ld\"}}", end - 1 + FIRST);
    say(out, "}");
    pthread_mutex_lock(&lock);
    stats.scans++, stats.items += count, stats.rcu += rcu;
    pthread_mutex_unlock(&lock);
    return 200;
}

static int statements(Table *table, const char *body, Buffer *out) {
    long number, count = 0, taken = 0;
    say(out, "{\"Responses\":[");
    for (const char *at = body; (at = next_key(at, &number)); count++) {
        if (count) say(out, ",");
        if (takes(table, number)) {
            sayf(out, "{\"TableName\":\"%s\"}", table->name);
            taken++;
        } else
            say(out, "{\"Error\":{\"Code\":\"ThrottlingError\",\"Message\":\"Throughput exceeds the partition's limit\"}}");
    }
    sayf(out, "],\"ConsumedCapacity\":[{\"TableName\":\"%s\",\"CapacityUnits\":%ld.0}]}", table->name, taken * units_of(table));
    pthread_mutex_lock(&lock);
    stats.batches++, stats.statements += count;
    pthread_mutex_unlock(&lock);
    return 200;
}

/* What does not fit comes back as it was sent: whole {"PutRequest": ...} objects, cut out by counting their braces. */
static int batch_write(Table *table, const char *body, Buffer *out) {
    long number, count = 0, left = 0;
    sayf(out, "{\"UnprocessedItems\":{");
    for (const char *at = body; (at = strstr(at, "{\"PutRequest\"")); count++) {
        const char *end = at;
        int depth = 0, in_text = 0;
        do {
            if (*end == '"' && end[-1] != '\\') in_text = !in_text;
            if (!in_text) depth += (*end == '{') - (*end == '}');
        } while (*++end && depth);
        if (next_key(at, &number) && !takes(table, number)) {
            if (left++) say(out, ","); else sayf(out, "\"%s\":[", table->name);
            add(out, at, end - at);
        }
        at = end;
    }
    say(out, left ? "]}}" : "}}");
    pthread_mutex_lock(&lock);
    stats.batches++, stats.puts += count;
    pthread_mutex_unlock(&lock);
    return 200;
}

static int single(Table *table, const char *body, Buffer *out) {
    long number = 0;
    next_key(body, &number);
    pthread_mutex_lock(&lock);
    stats.updates++;
    pthread_mutex_unlock(&lock);
    if (takes(table, number)) return say(out, "{}"), 200;
    say(out, "{\"__type\":\"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException\","
             "\"message\":\"Throughput exceeds the partition's limit\"}");
    return 400;
}

static int describe(Table *table, Buffer *out) {
    sayf(out, "{\"Table\":{\"TableName\":\"%s\",\"TableStatus\":\"ACTIVE\",", table->name);
    say(out, "\"KeySchema\":[{\"AttributeName\":\"id\",\"KeyType\":\"HASH\"}],"
             "\"AttributeDefinitions\":[{\"AttributeName\":\"id\",\"AttributeType\":\"S\"}],"
             "\"BillingModeSummary\":{\"BillingMode\":\"PAY_PER_REQUEST\"},"
             "\"ProvisionedThroughput\":{\"ReadCapacityUnits\":0,\"WriteCapacityUnits\":0},");
    sayf(out, "\"ItemCount\":%ld,\"TableSizeBytes\":%ld}}", table->items, table->items * table->bytes);
    return 200;
}

static int answer(const char *operation, const char *body, Table *table, Buffer *out) {
    if (!strcmp(operation, "Scan")) return scan(table, body, out);
    if (!strcmp(operation, "BatchExecuteStatement")) return statements(table, body, out);
    if (!strcmp(operation, "BatchWriteItem")) return batch_write(table, body, out);
    if (!strcmp(operation, "UpdateItem") || !strcmp(operation, "PutItem")) return single(table, body, out);
    if (!strcmp(operation, "DescribeTable")) return describe(table, out);
    if (!strcmp(operation, "GetItem")) return say(out, "{}"), 200;
    sayf(out, "{\"__type\":\"com.amazon.coral.service#UnknownOperationException\",\"message\":\"%s\"}", operation);
    return 400;
}

static void tell_stats(Buffer *out) {
    pthread_mutex_lock(&lock);
    sayf(out, "{\"requests\":%ld,\"scans\":%ld,\"batches\":%ld,\"statements\":%ld,\"puts\":%ld,\"updates\":%ld,",
         stats.requests, stats.scans, stats.batches, stats.statements, stats.puts, stats.updates);
    sayf(out, "\"throttled\":%ld,\"items\":%ld,\"bytes_in\":%ld,\"bytes_out\":%ld,\"rcu\":%.1f,\"wcu\":%.1f}",
         stats.throttled, stats.items, stats.bytes_in, stats.bytes_out, stats.rcu, stats.wcu);
    memset(&stats, 0, sizeof stats);
    memset(buckets, 0, sizeof buckets);
    pthread_mutex_unlock(&lock);
}

/* ------------------------------------------------------------ HTTP */

static int send_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent <= 0) return -1;
        data += sent, size -= sent;
    }
    return 0;
}

static int receive(int fd, Buffer *in) {
    need(in, 65536);
    ssize_t got = recv(fd, in->data + in->size, in->room - in->size - 1, 0);
    if (got <= 0) return -1;
    in->data[in->size += got] = 0;
    return 0;
}

static long header_number(const char *head, const char *name) {
    const char *at = strcasestr(head, name);
    return at ? atol(at + strlen(name)) : 0;
}

/* Reads one message, head and body; returns its size in the buffer, 0 at the end. `head_size` is where the body begins. */
static size_t message(int fd, Buffer *in, size_t *head_size, int may_wait_for_100) {
    const char *end;
    while (!in->size || !(end = strstr(in->data, "\r\n\r\n")))
        if (receive(fd, in)) return 0;
    *head_size = end + 4 - in->data;
    char kept = in->data[*head_size];
    in->data[*head_size] = 0; /* what is looked for is looked for in the head alone */
    size_t whole = *head_size + header_number(in->data, "\r\nContent-Length:");
    int waits = strcasestr(in->data, "\r\nExpect: 100-continue") != NULL;
    in->data[*head_size] = kept;
    if (waits && may_wait_for_100) send_all(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    while (in->size < whole)
        if (receive(fd, in)) return 0;
    return whole;
}

static void drop(Buffer *in, size_t size) {
    memmove(in->data, in->data + size, in->size - size);
    in->data[in->size -= size] = 0;
}

static int connect_upstream(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(upstream_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at)) return close(fd), -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* One request passed on over a connection of its own; the whole answer, as it came, is put into `out`. */
static int passed_on(const char *request, size_t size, Buffer *out) {
    int fd = connect_upstream(), head_only = !strncmp(request, "HEAD ", 5);
    if (fd < 0 || send_all(fd, request, size)) return -1;
    size_t head, whole;
    while (1) {
        whole = head_only ? (out->size = 0, receive(fd, out), out->size) : message(fd, out, &head, 0);
        if (!whole) return close(fd), -1;
        if (strncmp(out->data, "HTTP/1.1 100", 12)) break;
        drop(out, head);
    }
    close(fd);
    return 0;
}

static void respond(Buffer *out, int status, const Buffer *body) {
    sayf(out, "HTTP/1.1 %d %s\r\nServer: canned\r\nContent-Type: application/x-amz-json-1.0\r\n"
              "x-amzn-RequestId: CANNEDCANNEDCANNEDCANNEDCANNEDCANNEDCANNEDCANNEDCANN\r\nConnection: keep-alive\r\n"
              "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: %zu\r\n\r\n",
         status, status == 200 ? "OK" : "Bad Request", body->size);
    add(out, body->data, body->size);
}

/* The answer to one whole message, as bytes; -1 when there is none. */
static int serve(Buffer *in, size_t head, size_t whole, Buffer *out, Buffer *body) {
    char operation[64] = "", kept = in->data[head];
    in->data[head] = 0;
    const char *target = strcasestr(in->data, "\r\nX-Amz-Target: DynamoDB_20120810.");
    if (target) sscanf(target + 34, "%63[A-Za-z]", operation);
    int asks_stats = !strncmp(in->data, "GET /_canned/stats ", 19), probe = !strncmp(in->data, "GET /_", 6);
    in->data[head] = kept;
    kept = in->data[whole];
    in->data[whole] = 0;
    Table *table = *operation ? table_of(operation, in->data + head) : NULL;
    int failed = 0;
    if (asks_stats) tell_stats(body), respond(out, 200, body);
    else if (table) {
        int status = answer(operation, in->data + head, table, body);
        respond(out, status, body);
        pthread_mutex_lock(&lock);
        stats.requests++, stats.bytes_in += whole, stats.bytes_out += out->size;
        pthread_mutex_unlock(&lock);
    } else if (probe || !upstream_port) say(body, "{}"), respond(out, 404, body);
    else failed = passed_on(in->data, whole, out);
    in->data[whole] = kept;
    return failed;
}

static void *connection(void *argument) {
    int fd = (int)(long)argument;
    Buffer in = {0}, out = {0}, body = {0};
    size_t head, whole;
    while ((whole = message(fd, &in, &head, 1))) {
        double begun = now();
        out.size = body.size = 0;
        if (serve(&in, head, whole, &out, &body)) break;
        drop(&in, whole);
        wait_until(begun + latency);
        if (send_all(fd, out.data, out.size)) break;
    }
    close(fd);
    free(in.data), free(out.data), free(body.data);
    return NULL;
}

/* ------------------------------------------------------------ the program */

static void read_template(const char *path) {
    FILE *file = fopen(path, "rb");
    Buffer text = {0};
    if (!file) die(path);
    need(&text, 65536);
    text.size = fread(text.data, 1, 65536, file);
    text.data[text.size] = 0;
    fclose(file);
    template_text = text.data, template_size = text.size;
    for (char *at = text.data; (at = strstr(at, "@@@@@@@")) && spot_count < MAX_SPOTS; at += DIGITS) spots[spot_count++] = at - text.data;
}

static void add_table(char *text) {
    Table *table = &tables[table_count++];
    if (table_count > MAX_TABLES || sscanf(text, "%255[^:]:%ld:%ld", table->name, &table->items, &table->bytes) != 3) {
        fprintf(stderr, "--table NAME:ITEMS:BYTES, not %s\n", text);
        exit(2);
    }
}

int main(int count, char **words) {
    int port = 0, on = 1;
    for (int i = 1; i + 1 < count; i += 2) {
        char *value = words[i + 1];
        if (!strcmp(words[i], "--port")) port = atoi(value);
        else if (!strcmp(words[i], "--template")) read_template(value);
        else if (!strcmp(words[i], "--table")) add_table(value);
        else if (!strcmp(words[i], "--latency-us")) latency = atof(value) * 1e-6;
        else if (!strcmp(words[i], "--partitions")) partitions = atoi(value);
        else if (!strcmp(words[i], "--wcu")) partition_wcu = atof(value);
        else if (!strcmp(words[i], "--upstream")) upstream_port = atoi(value);
        else return fprintf(stderr, "unknown option %s\n", words[i]), 2;
    }
    if (partitions > MAX_PARTITIONS || !template_text) return fprintf(stderr, "--template is missing, or too many partitions\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, size) || listen(listener, 512) || getsockname(listener, (struct sockaddr *)&at, &size)) die("listen");
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    while (1) {
        int fd = accept(listener, NULL, NULL);
        pthread_t thread;
        if (fd < 0) { if (errno == EINTR || errno == ECONNABORTED) continue; die("accept"); }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (pthread_create(&thread, &detached, connection, (void *)(long)fd)) close(fd);
    }
}
