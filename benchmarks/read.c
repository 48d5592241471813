/* Read the rows of a query and throw them away: the least that a client of MySQL can do.
 *
 *     MYSQL_PWD=… read HOST PORT USER DATABASE QUERY
 */
#include <mysql.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    MYSQL *session = mysql_init(NULL);
    if (argc != 6 || !mysql_real_connect(session, argv[1], argv[3], getenv("MYSQL_PWD"), argv[4], atoi(argv[2]), NULL, 0)
        || mysql_query(session, argv[5])) {
        fprintf(stderr, "%s\n", mysql_error(session));
        return 1;
    }
    MYSQL_RES *result = mysql_use_result(session);
    while (result && mysql_fetch_row(result))
        ;
    if (!result || mysql_errno(session)) {
        fprintf(stderr, "%s\n", mysql_error(session));
        return 1;
    }
    return 0;
}
