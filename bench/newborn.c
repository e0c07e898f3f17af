/*
 * What a newborn workload does from its first instruction on: send what policy denies, by sockets and by frames of its
 * own making, ask what policy allows, and count what reaches it from those who may not. Static, so that it runs in any
 * network namespace and in an image without a library.
 *
 *   newborn ID SECONDS ALLOWED TCP_PORT UDP_PORT DENIED_MAC FORGED_SOURCE SCANNER[,SCANNER] DENIED/PORT ...
 *
 * Every datagram carries the same words (struct words): who sent it, when that was born, and all that it has done so
 * far. The first DENIED is a neighbour, whose MAC is DENIED_MAC: it is sent frames too, to the port after its own from
 * the newborn's address, and to the port after that one from FORGED_SOURCE. Times are CLOCK_MONOTONIC nanoseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x6e6577626f726e31ULL
#define SCANNERS 4
#define BRISK 300000000ULL /* nanoseconds in which it does not rest for longer than a moment */

struct words {
    uint64_t magic, id, born, able, now, denied, frames, scanned, connected;
} __attribute__((packed));

static struct words words;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void rest(long nanoseconds)
{
    struct timespec t = {0, nanoseconds};
    nanosleep(&t, NULL);
}

static socklen_t address(const char *text, int port, struct sockaddr_storage *to)
{
    struct sockaddr_in *four = (void *)to;
    struct sockaddr_in6 *six = (void *)to;
    memset(to, 0, sizeof *to);
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        return sizeof *four;
    }
    inet_pton(AF_INET6, text, &six->sin6_addr);
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    return sizeof *six;
}

/* Say everything to an address; true where the kernel took it. */
static int say(const struct sockaddr_storage *to, socklen_t length)
{
    static int sockets[2] = {-1, -1};
    int six = to->ss_family == AF_INET6;
    if (sockets[six] < 0)
        sockets[six] = socket(to->ss_family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    words.now = now();
    return sendto(sockets[six], &words, sizeof words, 0, (const void *)to, length) == sizeof words;
}

/* Ask whom it may; the first time that the kernel takes it is when life begins. */
static void ask(const struct sockaddr_storage *to, socklen_t length)
{
    int first = !words.able;
    if (first)
        words.able = now();
    if (!say(to, length) && first)
        words.able = 0;
}

static uint16_t sum(const void *data, int length)
{
    const uint16_t *each = data;
    uint32_t total = 0;
    for (; length > 1; length -= 2)
        total += *each++;
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return ~total;
}

/* Send a frame of our own making, past this namespace's own stack and filter. */
static void frame(int packet, const char *link, const uint8_t *mac, uint32_t source, uint32_t target, int port)
{
    struct {
        struct ether_header ether;
        struct iphdr ip;
        struct udphdr udp;
        struct words words;
    } __attribute__((packed)) f;
    struct ifreq asked;
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_halen = 6, .sll_protocol = htons(ETH_P_IP)};
    memset(&f, 0, sizeof f);
    memset(&asked, 0, sizeof asked);
    strncpy(asked.ifr_name, link, IFNAMSIZ - 1);
    if (ioctl(packet, SIOCGIFHWADDR, &asked) < 0)
        return;
    memcpy(f.ether.ether_shost, asked.ifr_hwaddr.sa_data, 6);
    memcpy(f.ether.ether_dhost, mac, 6);
    f.ether.ether_type = htons(ETH_P_IP);
    f.ip.version = 4;
    f.ip.ihl = 5;
    f.ip.ttl = 64;
    f.ip.protocol = IPPROTO_UDP;
    f.ip.tot_len = htons(sizeof f - sizeof f.ether);
    f.ip.saddr = source;
    f.ip.daddr = target;
    f.ip.check = sum(&f.ip, sizeof f.ip);
    f.udp.source = htons(4242);
    f.udp.dest = htons(port);
    f.udp.len = htons(sizeof f.udp + sizeof f.words);
    words.now = now();
    f.words = words;
    to.sll_ifindex = if_nametoindex(link);
    if (sendto(packet, &f, sizeof f, 0, (void *)&to, sizeof to) == sizeof f)
        words.frames++;
}

static uint32_t own_address(int any, const char *link)
{
    struct ifreq asked;
    memset(&asked, 0, sizeof asked);
    strncpy(asked.ifr_name, link, IFNAMSIZ - 1);
    if (ioctl(any, SIOCGIFADDR, &asked) < 0)
        return 0;
    return ((struct sockaddr_in *)&asked.ifr_addr)->sin_addr.s_addr;
}

/* Count what has come from those who may not send here. */
static void listen_in(int packet, const uint32_t *scanners, int count)
{
    struct {
        struct ether_header ether;
        struct iphdr ip;
        uint8_t rest[1500];
    } __attribute__((packed)) f;
    struct sockaddr_ll from;
    socklen_t length = sizeof from;
    while (recvfrom(packet, &f, sizeof f, MSG_DONTWAIT, (void *)&from, &length) > (ssize_t)sizeof f.ether) {
        if (from.sll_pkttype != PACKET_OUTGOING && f.ether.ether_type == htons(ETH_P_IP))
            for (int each = 0; each < count; each++)
                words.scanned += f.ip.saddr == scanners[each];
        length = sizeof from;
    }
}

/* Connect as an application does: once, and wait for as long as the kernel does. */
static void connecting(const struct sockaddr_storage *to, socklen_t length)
{
    static int stream = -1;
    static int begun;
    int outcome = -1;
    socklen_t size = sizeof outcome;
    struct sockaddr_storage peer;
    socklen_t peer_length = sizeof peer;
    if (words.connected)
        return;
    if (!begun) {
        if (stream >= 0)
            close(stream);
        stream = socket(to->ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
        begun = connect(stream, (const void *)to, length) == 0 || errno == EINPROGRESS;
        return;
    }
    getsockopt(stream, SOL_SOCKET, SO_ERROR, &outcome, &size);
    if (outcome != 0)
        begun = 0;
    else if (getpeername(stream, (void *)&peer, &peer_length) == 0)
        words.connected = now();
}

int main(int count, char **argument)
{
    words.magic = MAGIC;
    words.born = now();
    if (count < 10)
        return 2;
    words.id = strtoull(argument[1], NULL, 10);
    uint64_t until = words.born + strtod(argument[2], NULL) * 1e9;
    struct sockaddr_storage tcp, udp, denied[8];
    socklen_t tcp_length = address(argument[3], atoi(argument[4]), &tcp);
    socklen_t udp_length = address(argument[3], atoi(argument[5]), &udp);
    socklen_t denied_length[8];
    uint8_t mac[6];
    uint32_t scanners[SCANNERS];
    int listened = 0, targets = 0;
    uint32_t forged = inet_addr(argument[7]);
    sscanf(argument[6], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5);
    for (char *each = strtok(argument[8], ","); each && listened < SCANNERS; each = strtok(NULL, ","))
        scanners[listened++] = inet_addr(each);
    for (int each = 9; each < count && targets < 8; each++, targets++) {
        char *port = strchr(argument[each], '/');
        *port = 0;
        denied_length[targets] = address(argument[each], atoi(port + 1), &denied[targets]);
    }
    struct sockaddr_in *neighbour = (void *)&denied[0];
    int packet = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));
    int any = socket(AF_INET, SOCK_DGRAM, 0);
    while (now() < until) {
        for (int each = 0; each < targets; each++)
            words.denied += say(&denied[each], denied_length[each]);
        uint32_t own = own_address(any, "eth0");
        if (packet >= 0 && own) {
            frame(packet, "eth0", mac, own, neighbour->sin_addr.s_addr, ntohs(neighbour->sin_port) + 1);
            frame(packet, "eth0", mac, forged, neighbour->sin_addr.s_addr, ntohs(neighbour->sin_port) + 2);
        }
        ask(&udp, udp_length);
        connecting(&tcp, tcp_length);
        if (packet >= 0)
            listen_in(packet, scanners, listened);
        rest(!words.able ? 50000 : words.now < words.able + BRISK ? 500000 : 10000000);
    }
    return 0;
}
