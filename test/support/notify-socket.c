/* A service manager's ear: prints each message that comes to the socket it is given, and an empty line after it. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int count, char **arguments)
{
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char message[65536];
  if (count != 2 || strlen(arguments[1]) >= sizeof address.sun_path) return 2;
  strcpy(address.sun_path, arguments[1]);
  int handle = socket(AF_UNIX, SOCK_DGRAM, 0);
  if (handle < 0 || bind(handle, (struct sockaddr *)&address, sizeof address) < 0) {
    perror("notify-socket");
    return 1;
  }
  puts("listening\n");
  for (;;) {
    fflush(stdout);
    ssize_t length = recv(handle, message, sizeof message, 0);
    if (length < 0) return 1;
    printf("%.*s\n\n", (int)length, message);
  }
}
