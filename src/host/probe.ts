/** Whether somebody listens at an address: a TCP connection that is closed at once. */
import { connect } from "node:net";

/** Names and packets that nobody answers are given up after this, ms. */
const timeoutMs = 4_000;

/** Never rejects. */
export function answers(address: {
  readonly host: string;
  readonly port: number;
}): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ ...address, timeout: timeoutMs });
    const end = (isThere: boolean) => (): void => {
      socket.destroy();
      resolve(isThere);
    };
    socket.once("connect", end(true));
    socket.once("timeout", end(false));
    socket.once("error", end(false));
  });
}
