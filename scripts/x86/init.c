// The first process of the emulated machine: runs /program with its own arguments, tells its status, ends the machine.
#include <stdio.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

int main(int count, char **args) {
    (void)count;
    int status = 0;
    puts("EMULATED PROGRAM");
    fflush(stdout);
    if (fork() == 0) {
        args[0] = "/program";
        execv(args[0], args);
        _exit(127);
    }
    wait(&status);
    printf("EMULATED STATUS %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
    reboot(RB_AUTOBOOT);
}
