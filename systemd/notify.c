/*
 * notify(state): one message to the socket that systemd gave us (sd_notify(3)). Node has no datagram sockets of the
 * Unix kind, and `systemd-notify` as a child would need NotifyAccess=all and 30 ms a ping.
 *
 * It returns 1 when the message was taken, 0 when nobody asked for any, and -errno otherwise. It never waits: a manager
 * that does not read must not hold up the thread whose liveness it asks about.
 */
#define NAPI_VERSION 8
#define _GNU_SOURCE
#include <errno.h>
#include <node_api.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A STATUS= line of some sentences; what is longer is refused. */
enum { state_max = 4096 };

static int send_state(const char *state, size_t length)
{
  const char *path = getenv("NOTIFY_SOCKET");
  if (path == NULL || (*path != '/' && *path != '@')) return 0;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t path_length = strlen(path);
  if (path_length >= sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, path, path_length);
  /* The abstract name space begins with a zero byte (unix(7)). */
  if (*path == '@') address.sun_path[0] = 0;
  int handle = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (handle < 0) return -errno;
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_length);
  ssize_t sent = sendto(handle, state, length, MSG_NOSIGNAL, (struct sockaddr *)&address, size);
  int result = sent < 0 ? -errno : 1;
  close(handle);
  return result;
}

static napi_value notify(napi_env env, napi_callback_info info)
{
  char state[state_max];
  size_t count = 1, length = 0;
  napi_value argument, result;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (count < 1 || napi_get_value_string_utf8(env, argument, NULL, 0, &length) != napi_ok) {
    napi_throw_type_error(env, NULL, "notify() takes a text");
    return NULL;
  }
  if (length >= sizeof state) {
    napi_throw_range_error(env, NULL, "The text is too long");
    return NULL;
  }
  napi_get_value_string_utf8(env, argument, state, sizeof state, &length);
  napi_create_int32(env, send_state(state, length), &result);
  return result;
}

NAPI_MODULE_INIT()
{
  napi_value function;
  napi_create_function(env, "notify", NAPI_AUTO_LENGTH, notify, NULL, &function);
  napi_set_named_property(env, exports, "notify", function);
  return exports;
}
