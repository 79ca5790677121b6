// Package process runs the supervised child: one program with secrets in its
// environment, started again when they change and ended in good order.
//
// The child leads a process group of its own in the session of the agent. A
// session of its own would take the terminal from it; a group of its own is what
// lets Ctrl-C reach it and not the agent, and what can be ended as a whole.
// Where there is a terminal it is handed to that group, and a child that is
// stopped from the keyboard stops the agent too, so that the shell's job control
// sees one job.
//
// The child is never reaped before its group is done with: until then its
// number, and that of the group, can be nobody else's.
package process
